"""Who reaches whom: rooms trust whoever reaches them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import permutations, product

from finetuner.flow.standalone import GATEWAY, METRICS_PORT, PORT, RoomOptions

from .kustomize import Object
from .objects import labels_of, of_kind, rendered, rooms, selected, selects

GRPC_PORT, HTTP_PORT = RoomOptions().gateway_ports
PORTS = (PORT, GRPC_PORT, HTTP_PORT, METRICS_PORT, 22)
STRANGER = {"app.kubernetes.io/name": "shop"}
QDRANT = {"app.kubernetes.io/name": "qdrant"}
POSTGRES = {"app.kubernetes.io/name": "postgresql"}
NOT_PUBLIC = ("10.96.0.1", "100.64.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1")
FETCHING = {"trainer", "evaluator", "text-encoder", "vision-encoder"}


def reaches(objects: list[Object], source: dict[str, str], target: dict[str, str], port: int) -> bool:
    """Whether policies let one pod of the namespace open a connection to another; each pod by its labels.

    To and from a pod that no policy selects, everything may pass.
    """
    for way, own, other in (("egress", source, target), ("ingress", target, source)):
        policies = [
            each["spec"]
            for each in of_kind(objects, "NetworkPolicy")
            if way.capitalize() in each["spec"]["policyTypes"] and selects(each["spec"]["podSelector"], own)
        ]
        entries = [entry for policy in policies for entry in policy.get(way, [])]
        if policies and not any(lets(entry, "to" if way == "egress" else "from", other, port) for entry in entries):
            return False
    return True


def lets(entry: Object, peers: str, other: dict[str, str], port: int) -> bool:
    """Whether one entry of a policy lets TCP pass between its pods and another one."""
    return {"protocol": "TCP", "port": port} in entry["ports"] and (
        peers not in entry
        or any(set(peer) == {"podSelector"} and selects(peer["podSelector"], other) for peer in entry[peers])
    )


def test_rooms_reach_those_that_they_ask_and_no_others(overlay: list[Object]) -> None:
    labels = {name: labels_of(workload) for name, workload in rooms(overlay).items()}
    found = {
        (source, target, port)
        for (source, target), port in product(permutations(labels, 2), PORTS)
        if reaches(overlay, labels[source], labels[target], port)
    }
    gateways = {(GATEWAY, name, PORT) for name in labels if name != GATEWAY}
    assert found == gateways | {("indexer", GATEWAY, GRPC_PORT)}


def test_others_reach_the_gateway_alone(overlay: list[Object]) -> None:
    found = {
        (name, port)
        for (name, workload), port in product(rooms(overlay).items(), PORTS)
        if reaches(overlay, STRANGER, labels_of(workload), port)
    }
    assert found == {(GATEWAY, GRPC_PORT), (GATEWAY, HTTP_PORT)}


def test_metrics_are_for_namespaces_that_somebody_has_named(overlay: list[Object]) -> None:
    (policy,) = [each for each in overlay if each["metadata"]["name"] == "every-room"]
    assert selected(policy["spec"]["podSelector"], overlay) == list(rooms(overlay))
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (entry,) = policy["spec"]["ingress"]
    assert entry["from"] == [{"namespaceSelector": {"matchLabels": {"finetuner-metrics": "read"}}}]
    assert entry["ports"] == [{"protocol": "TCP", "port": METRICS_PORT}]


def test_the_way_out_is_dns_and_public_addresses(overlay: list[Object]) -> None:
    blocks = {
        policy["metadata"]["name"]: (peer["ipBlock"], [port["port"] for port in entry["ports"]])
        for policy in of_kind(overlay, "NetworkPolicy")
        for entry in policy["spec"].get("egress", [])
        for peer in entry["to"]
        if "ipBlock" in peer
    }
    assert blocks.pop("every-room") == ({"cidr": "169.254.20.10/32"}, [53, 53])
    assert set(blocks) == FETCHING
    for block, ports in blocks.values():
        assert (block["cidr"], ports) == ("0.0.0.0/0", [80, 443])
        left_out = [ip_network(each) for each in block["except"]]
        assert all(any(ip_address(each) in network for network in left_out) for each in NOT_PUBLIC)


def test_every_policy_is_of_a_room(overlay: list[Object]) -> None:
    for policy in of_kind(overlay, "NetworkPolicy"):
        assert selected(policy["spec"]["podSelector"], overlay), policy["metadata"]["name"]


def test_rooms_with_state_alone_reach_postgresql() -> None:
    for name, expected in (("scaled-out-postgres", ["gateway", "indexer", "trainer"]), ("scaled-out", [])):
        objects = rendered(name)
        found = [room for room, each in rooms(objects).items() if reaches(objects, labels_of(each), POSTGRES, 5432)]
        assert sorted(found) == expected


def test_scaled_out_the_indexer_reaches_qdrant() -> None:
    for name in ("scaled-out", "scaled-out-gpu"):
        objects = rendered(name)
        found = [room for room, each in rooms(objects).items() if reaches(objects, labels_of(each), QDRANT, 6333)]
        assert found == ["indexer"]
    base = rendered("base")
    assert not reaches(base, labels_of(rooms(base)["indexer"]), QDRANT, 6333)
