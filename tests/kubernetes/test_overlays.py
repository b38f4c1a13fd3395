"""What overlays change: GPUs, and several nodes."""

from __future__ import annotations

import pytest
import yaml
from prometheus_client import CollectorRegistry

from finetuner.contract.environment import DATABASE
from finetuner.executors.encoder.lane.metrics import LaneMetrics
from finetuner.flow.standalone import named_values
from tests.room_commands import options_of

from .kustomize import FOLDER, Object, folders
from .objects import (
    arguments_of,
    container_of,
    labels_of,
    of_kind,
    pod_of,
    rendered,
    rooms,
    selected,
    selects,
)

ENCODERS = ("text_encoder", "vision_encoder")
GPU = "nvidia.com/gpu"


def autoscalers(objects: list[Object]) -> dict[str, Object]:
    """Return what they are told, by the room that they scale."""
    found = {}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        (room,) = [
            name
            for name, workload in rooms(objects).items()
            if {"apiVersion": workload["apiVersion"], "kind": workload["kind"], "name": workload["metadata"]["name"]}
            == target
        ]
        found[room] = scaler["spec"]
    return found


def test_nodes_can_be_emptied(overlay: list[Object]) -> None:
    covered = []
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        spec = budget["spec"]
        (name,) = selected(spec["selector"], overlay)
        covered.append(name)
        scaler = autoscalers(overlay).get(name)
        pods = scaler["minReplicas"] if scaler else rooms(overlay)[name]["spec"]["replicas"]
        if pods == 1:
            assert spec["maxUnavailable"] == 1, "by minAvailable 1 its node would be kept for ever"
        else:
            assert spec["minAvailable"] < pods
    assert sorted(covered) == sorted(rooms(overlay))


def test_autoscalers_ask_for_a_metric_of_what_they_scale(overlay: list[Object]) -> None:
    registry = CollectorRegistry()
    LaneMetrics(registry)
    gauges = {family.name for family in registry.collect() if family.type == "gauge"}
    for name, spec in autoscalers(overlay).items():
        assert name in ENCODERS, "which have those metrics"
        (metric,) = spec["metrics"]
        assert (metric["type"], metric["pods"]["target"]["type"]) == ("Pods", "AverageValue")
        assert metric["pods"]["metric"]["name"] in gauges
        assert 1 < spec["minReplicas"] < spec["maxReplicas"]
    # Where one stands, each `kubectl apply` would set back what the autoscaler has chosen.
    free = {name for name, workload in rooms(overlay).items() if "replicas" not in workload["spec"]}
    assert free == set(autoscalers(overlay))


def test_the_adapter_answers_what_the_autoscalers_ask() -> None:
    values = yaml.safe_load((FOLDER / "overlays" / "scaled-out" / "prometheus-adapter-values.yaml").read_text())
    found = autoscalers(rendered("scaled-out"))
    assert set(found) == set(ENCODERS)
    asked = {metric["pods"]["metric"]["name"] for spec in found.values() for metric in spec["metrics"]}
    assert asked == {rule["seriesQuery"].partition("{")[0] for rule in values["rules"]["custom"]}


@pytest.mark.parametrize("name", [name for name in folders() if name.endswith("gpu")])
def test_rooms_with_a_gpu_use_it(name: str) -> None:
    objects = rendered(name)
    found = {
        room: workload
        for room, workload in rooms(objects).items()
        if container_of(workload)["resources"]["limits"].get(GPU) == 1
    }
    assert set(found) == {"trainer", *ENCODERS}
    for room, workload in found.items():
        assert container_of(workload)["image"].endswith(":cuda")
        assert [toleration["key"] for toleration in pod_of(workload)["tolerations"]] == [GPU]
        if room in ENCODERS:
            assert named_values("--set", options_of(arguments_of(workload))["set_"]) == {"device": "cuda"}
            assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    (shared,) = [each for each in container_of(found["trainer"])["volumeMounts"] if each["mountPath"] == "/dev/shm"]
    assert {"name": shared["name"], "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in pod_of(found["trainer"])[
        "volumes"
    ]


@pytest.mark.parametrize("name", [name for name in folders() if name.startswith("scaled-out")])
def test_scaled_out_is_for_several_nodes(name: str) -> None:
    objects = rendered(name)
    (claim,) = of_kind(objects, "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert named_values("--set", options_of(arguments_of(rooms(objects)["indexer"]))["set_"]) == {
        "index": "http://qdrant:6333"
    }
    for room in ENCODERS:
        workload = rooms(objects)[room]
        (spread,) = pod_of(workload)["topologySpreadConstraints"]
        assert selects(spread["labelSelector"], labels_of(workload))
        keys = set(spread["matchLabelKeys"])
        assert keys <= {*labels_of(workload), "pod-template-hash"}
        assert not keys & set(spread["labelSelector"]["matchLabels"]), "Kubernetes refuses a label in both"


def test_rooms_with_state_get_the_database_and_upgrade_it_first() -> None:
    objects = rendered("scaled-out-postgres")
    found = {}
    for room, workload in rooms(objects).items():
        first = pod_of(workload).get("initContainers", [])
        for container in (*first, container_of(workload)):
            for variable in container.get("env", []):
                if variable["name"] == DATABASE:
                    assert variable["valueFrom"] == {"secretKeyRef": {"name": "finetuner-database", "key": "url"}}
                    found.setdefault(room, []).append(container["name"])
        assert [container["args"] for container in first] == [["db", "upgrade"]] * (room in found)
    assert found == {room: ["database-upgrade", room] for room in ("gateway", "trainer", "indexer")}
    (policy,) = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "rooms-to-postgres"]
    ((selector,),) = [policy["spec"]["podSelector"]["matchExpressions"]]
    assert sorted(selector["values"]) == sorted(found)


def test_elsewhere_nothing_is_set_beside_the_flow() -> None:
    for name in ("base", "one-node"):
        assert all(
            arguments_of(workload)[2:] == ["--workspace", "/workspace"] for workload in rooms(rendered(name)).values()
        )
