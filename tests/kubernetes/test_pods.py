"""What runs: every room of the Flow, with settings that it has, reached by its name, locked in, on volumes."""

from __future__ import annotations

from pathlib import Path

import yaml

from finetuner.contract.environment import DATABASE
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, RoomOptions, standalone_flow
from tests.room_commands import CLASSES, options_of, settings_given

from .kustomize import Object
from .objects import arguments_of, container_of, containers, labels_of, of_kind, pod_of, rooms, selected

LOCKED = ("trainer", "indexer")  # a second one of the workspace does not start


def test_there_is_a_workload_for_each_room_of_the_flow(overlay: list[Object]) -> None:
    flow = yaml.safe_load(flow_file().read_text())
    assert set(rooms(overlay)) == {GATEWAY, *(room["name"] for room in flow["executors"])} == set(CLASSES)
    for name, workload in rooms(overlay).items():
        assert workload["metadata"]["name"] == RoomOptions().address(name)[0]
        assert workload["kind"] == ("StatefulSet" if name in LOCKED else "Deployment")
        if name in (GATEWAY, *LOCKED):
            assert workload["spec"]["replicas"] == 1


def test_a_container_runs_its_room_with_settings_that_it_has(overlay: list[Object], tmp_path: Path) -> None:
    for name, workload in rooms(overlay).items():
        options = options_of(arguments_of(workload))
        settings = settings_given(options)
        assert (options["name"], str(options["workspace"]), options["bind"]) == (name, "/workspace", "0.0.0.0")
        assert not options["address"], "rooms are found by their names"
        standalone_flow(flow_file(options["flow"]), name, RoomOptions(tmp_path, settings=settings))
        gateways = {"grpc": options["grpc_port"], "http": options["http_port"]} if name == GATEWAY else {}
        assert ports_of(workload) == {"grpc": options["port"], "metrics": options["metrics_port"]} | gateways


def ports_of(workload: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container_of(workload)["ports"]}


def test_all_containers_are_of_one_image(overlay: list[Object]) -> None:
    assert len({container["image"] for each in rooms(overlay).values() for container in containers(each)}) == 1


def test_probes_ask_a_port_that_listens(overlay: list[Object]) -> None:
    for workload in rooms(overlay).values():
        container = container_of(workload)
        start, ready, live = (container[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
        for probe in (start, ready, live):
            assert probe["grpc"] == {"port": ports_of(workload)["grpc"]}
        assert start["periodSeconds"] * start["failureThreshold"] >= 300, "a large model is loaded first"
        assert ready["periodSeconds"] * ready["failureThreshold"] < live["periodSeconds"] * live["failureThreshold"]


def test_a_room_has_time_to_stop(overlay: list[Object]) -> None:
    for name, workload in rooms(overlay).items():
        assert container_of(workload)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "3"]
        assert pod_of(workload)["terminationGracePeriodSeconds"] >= (90 if name == "trainer" else 20)


def test_a_name_leads_to_its_room_alone(overlay: list[Object]) -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind(overlay, "Service")}
    assert set(services) == {RoomOptions().address(name)[0] for name in rooms(overlay)}
    for name, workload in rooms(overlay).items():
        host, port = RoomOptions().address(name)
        service = services[host]
        assert selected({"matchLabels": service["selector"]}, overlay) == [name]
        assert selected(workload["spec"]["selector"], overlay) == [name]
        assert {ports_of(workload)[each["targetPort"]]: each["port"] for each in service["ports"]} == {
            number: number for number in ports_of(workload).values()
        }
        assert port in ports_of(workload).values()
        # Headless: the name has an address for each pod, and the gateway spreads its requests over them.
        assert service.get("clusterIP") == (None if name == GATEWAY else "None")
        assert workload["spec"].get("serviceName", host) == host


def test_every_volume_exists_and_is_used(overlay: list[Object]) -> None:
    claims = {each["metadata"]["name"] for each in of_kind(overlay, "PersistentVolumeClaim")}
    for name, workload in rooms(overlay).items():
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        own = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in containers(workload) for mount in container["volumeMounts"]}
        assert mounted == {*volumes, *own}
        named = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes.values()]
        assert set(named) - {None} == claims == {"workspace"}
        assert all(volume["emptyDir"]["sizeLimit"] for volume in volumes.values() if "emptyDir" in volume)
        paths = [mount["mountPath"] for mount in container_of(workload)["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        assert {"/workspace", "/tmp"} <= set(paths)
        assert ("/workspace/index" in paths) == bool(own) == (name == "indexer")


def test_pods_meet_the_restricted_standard_and_ours(overlay: list[Object]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards; beside it, no account, no writable root."""
    for workload in rooms(overlay).values():
        pod = pod_of(workload)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert {context[who] for who in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "emptyDir", "persistentVolumeClaim"}
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_every_container_has_bounds(overlay: list[Object]) -> None:
    for workload in rooms(overlay).values():
        for container in containers(workload):
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}
            assert set(resources["limits"]) - {"nvidia.com/gpu"} == {"memory"}, "cores have none"


def test_the_token_is_in_a_secret_that_is_not_here(overlay: list[Object]) -> None:
    assert not of_kind(overlay, "Secret")
    variables = {name: container_of(workload).get("env", []) for name, workload in rooms(overlay).items()}
    token = {"name": "FINETUNER_TOKEN", "valueFrom": {"secretKeyRef": {"name": "finetuner-token", "key": "token"}}}
    for found in variables.values():
        assert found.pop(0) == token, "a room's port asks for the secret of the rooms where the Flow has a token"
    for variable in (each for found in variables.values() for each in found):
        # without its database a room must not start with files of its own
        assert variable["valueFrom"]["secretKeyRef"].get("optional", False) is (variable["name"] != DATABASE)
        assert "value" not in variable


def test_prometheus_finds_the_metrics_under_the_labels_of_the_alerts(overlay: list[Object]) -> None:
    for name, workload in rooms(overlay).items():
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)}
        assert (labels_of(workload)["job"], labels_of(workload)["room"]) == ("finetuner", name)
