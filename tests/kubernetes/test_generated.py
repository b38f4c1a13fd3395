"""flows/kubernetes/base: as the generator writes it from the Flow, and as Jina itself reads the Flow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetuner.flow.launch import prepare_jina
from finetuner.flow.settings import flow_file, load_flow
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, PORT, RoomOptions, standalone_flow
from flows.kubernetes import generate

from .kustomize import FOLDER, Object
from .objects import arguments_of, of_kind, rendered, rooms

BASE = FOLDER / "base"
# Of one machine: `finetuner room` has the volume's folder and the gateway's name in their place.
MOVED = {"workspace_url", "encoder"}


def text_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_is_committed_is_what_the_flow_gives(tmp_path: Path) -> None:
    """Where this fails, `make manifests` writes them again."""
    folder = tmp_path / "base"
    shutil.copytree(BASE, folder)
    (folder / "room-that-was.yaml").touch()
    for name in generate.written(flow_file()):
        (folder / name).unlink()
    generate.main(folder)
    assert text_of(folder) == text_of(BASE)


def test_a_new_room_of_the_flow_appears(tmp_path: Path) -> None:
    content = yaml.safe_load(flow_file().read_text())
    content["executors"].append({"name": "coat_room", "replicas": 3})
    flow = tmp_path / "flow.yml"
    flow.write_text(yaml.safe_dump(content))
    files = generate.written(flow)
    assert "coat-room.yaml" in yaml.safe_load(files["kustomization.yaml"])["resources"]
    workload, service, *_ = yaml.safe_load_all(files["coat-room.yaml"])
    assert (workload["kind"], workload["spec"]["replicas"]) == ("Deployment", 3)
    assert service["metadata"]["name"] == "coat-room"
    assert set(files) - set(generate.written(flow_file())) == {"coat-room.yaml"}


def test_what_is_known_of_rooms_is_of_rooms_that_there_are() -> None:
    flow = yaml.safe_load(flow_file().read_text())
    assert set(generate.NEEDS) == {GATEWAY, *(room["name"] for room in flow["executors"])}


@pytest.fixture(scope="module")
def of_jina(tmp_path_factory: pytest.TempPathFactory, spawned: None) -> dict[str, list[Object]]:
    """Jina's own manifests of the same Flow, by room; it asks a hub for executors that are no images."""
    folder = tmp_path_factory.mktemp("jina")
    content = load_flow(flow_file(), folder)
    for room in (content["gateway"], *content["executors"]):
        room["uses"] = "docker://open-finetuner"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JINA_GATEWAY_IMAGE", "open-finetuner")
        prepare_jina()
        from jina import Flow

        Flow.load_config(content).to_kubernetes_yaml(str(folder / "out"), k8s_namespace="finetuner")
    return {path.parent.name: list(yaml.safe_load_all(path.read_text())) for path in folder.glob("out/*/*.yml")}


def option(objects: list[Object], name: str) -> Any:
    """Return what Jina's manifest of a room gives it by an option that is JSON."""
    arguments = arguments_of(*of_kind(objects, "Deployment"))
    return json.loads(arguments[arguments.index(name) + 1])


def test_jina_names_the_same_rooms_with_the_same_ports(of_jina: dict[str, list[Object]]) -> None:
    ours = {each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind(rendered("base"), "Service")}
    jinas = {
        each["metadata"]["name"]: each["spec"]["ports"]
        for room, objects in of_jina.items()
        for each in of_kind(objects, "Service")
        if room != GATEWAY  # its ports are those of the YAML with us, 8080 with Jina
    }
    assert set(ours) == {*jinas, GATEWAY}
    for name, ports in jinas.items():
        assert [port["port"] for port in ports] == [port["port"] for port in ours[name]] == [PORT, METRICS_PORT]
    flow = yaml.safe_load(flow_file().read_text())
    assert [port["port"] for port in ours[GATEWAY]] == [*flow["gateway"]["port"], METRICS_PORT]
    assert [port["appProtocol"] for port in ours[GATEWAY]][:2] == ["kubernetes.io/h2c", "http"]
    assert flow["gateway"]["protocol"] == ["grpc", "http"]


def test_our_gateway_has_jinas_graph_and_addresses(of_jina: dict[str, list[Object]], tmp_path: Path) -> None:
    from jina import Flow

    content = standalone_flow(flow_file(), GATEWAY, RoomOptions(tmp_path))
    own = Flow.load_config(content).build()._deployment_nodes[GATEWAY].pod_args["pods"][0][0]
    assert json.loads(own.graph_description) == option(of_jina[GATEWAY], "--graph-description")
    jinas = option(of_jina[GATEWAY], "--deployments-addresses")
    assert json.loads(own.deployments_addresses) == {
        room: [address.replace(".finetuner.svc", "") for address in addresses] for room, addresses in jinas.items()
    }


def test_rooms_have_jinas_settings(of_jina: dict[str, list[Object]], tmp_path: Path) -> None:
    assert set(rooms(rendered("base"))) == set(of_jina)
    for room, workload in rooms(rendered("base")).items():
        assert arguments_of(workload)[2:] == ["--workspace", "/workspace"], "the rest is the Flow's"
        content = standalone_flow(flow_file(), room, RoomOptions(tmp_path))
        (own,) = [content["gateway"]] if room == GATEWAY else content["executors"]
        jinas = option(of_jina[room], "--uses-with")
        assert set(own["uses_with"]) == set(jinas)
        for name in set(jinas) - MOVED:
            assert own["uses_with"][name] == jinas[name]
