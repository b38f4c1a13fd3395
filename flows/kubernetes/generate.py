"""Generates the manifests in base/ that derive from flows/finetuner.yml: `make manifests`.

A room added to the Flow gets a file here, with the defaults of `Needs` until it has a line in `NEEDS`. What a file
holds has its reasons in this one. namespace.yaml, network.yaml and workspace.yaml follow from no room, and are written
by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetuner.contract.environment import TOKEN
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, PORT, RoomOptions

Object = dict[str, Any]

BASE = Path(__file__).parent / "base"
BY_HAND = ("namespace.yaml", "network.yaml", "workspace.yaml")
HEADER = """\
# Written by flows/kubernetes/generate.py from flows/finetuner.yml: `make manifests`. See the reasons there.
"""
NAME = "finetuner"
INDEXER = "indexer"  # the only room with its own disk
IMAGE = "open-finetuner:latest"
PULL = "IfNotPresent"  # `latest` defaults to Always, which does not find an image loaded into a node
WORKSPACE = "/workspace"
USER = 10001  # of the image
GRPC_PORT, HTTP_PORT = RoomOptions().gateway_ports
H2C = "kubernetes.io/h2c"  # gRPC without TLS
# For images by URL, weights and trackers. Private networks are excluded: callers must not read from them.
PUBLIC = {
    "cidr": "0.0.0.0/0",
    "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
}


@dataclass(frozen=True)
class Needs:
    """The resources of a room; the Flow YAML has its settings."""

    cpu: str = "250m"
    """Requested cores."""
    memory: str = "1Gi"
    """Requested memory."""
    most: str = "6Gi"
    """Memory limit; a large model takes gigabytes."""
    single: bool = False
    """Whether the room locks its part of the workspace, so that a second one cannot start."""
    outside: bool = False
    """Whether the room fetches images or weights."""
    grace: int = 30
    """Seconds for a stop; a room finishes its requests in 6 s."""


NEEDS = {
    GATEWAY: Needs(memory="512Mi", most="2Gi"),
    # A run writes its checkpoint within 60 s.
    "trainer": Needs(cpu="2", memory="4Gi", most="12Gi", single=True, outside=True, grace=120),
    "evaluator": Needs(outside=True),
    "text_encoder": Needs(cpu="1", memory="2Gi", outside=True),
    "vision_encoder": Needs(cpu="1", memory="2Gi", outside=True),
    INDEXER: Needs(cpu="500m", single=True),
}


def written(flow: Path) -> dict[str, str]:
    """Return the files by name.

    Args:
        flow: the Flow's YAML.
    """
    content = yaml.safe_load(flow.read_text())
    replicas = {GATEWAY: 1} | {room["name"]: room.get("replicas", 1) for room in content["executors"]}
    rooms = {f"{service(room)}.yaml": objects(room, count) for room, count in replicas.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAME,
        "resources": [*BY_HAND, *rooms],
    }
    files = {"kustomization.yaml": [kustomization]} | rooms
    return {name: HEADER + "---\n".join(map(in_yaml, documents)) for name, documents in files.items()}


def service(room: str) -> str:
    """Return a room's service name, which all its objects have."""
    return RoomOptions().address(room)[0]


def objects(room: str, replicas: int) -> list[Object]:
    """Return the Kubernetes objects of a room."""
    return [workload(room, replicas), own_service(room), disruption_budget(room), network_policy(room)]


def workload(room: str, replicas: int) -> Object:
    """Return a room's workload: a Deployment, or a StatefulSet for a single room, which never starts a second pod."""
    needs = NEEDS.get(room, Needs())
    spec: Object = {"replicas": 1 if needs.single else replicas, "selector": {"matchLabels": labels(room)}}
    if needs.single:
        spec |= {"serviceName": service(room), "updateStrategy": {"type": "RollingUpdate"}}
    else:  # the new pod is ready before the old one stops
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        spec |= {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
    spec["template"] = {
        "metadata": {
            # Prometheus' usual job for pods copies the labels `job` and `room`, which monitoring/ needs.
            "labels": labels(room) | {"job": NAME, "room": room},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS_PORT)},
        },
        "spec": pod(room, needs),
    }
    if room == INDEXER:
        spec["volumeClaimTemplates"] = [
            {
                "metadata": {"name": "index"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
            }
        ]
    return made("apps/v1", "StatefulSet" if needs.single else "Deployment", room, spec)


def pod(room: str, needs: Needs) -> Object:
    """Return a room's pod, compliant with the `restricted` standard."""
    container: Object = {
        "name": service(room),
        "image": IMAGE,
        "imagePullPolicy": PULL,
        "args": ["room", room, "--workspace", WORKSPACE],
    }
    if variables := environment(room):
        container["env"] = variables
    container |= {
        "ports": [{"name": name, "containerPort": port} for name, port in ports(room).items()],
        **probes(GRPC_PORT if room == GATEWAY else PORT),
        # Callers learn of the stop before the room refuses requests.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}},
        # No limit of cores: idle cores may be used, and a throttled room answers its probes late.
        "resources": {"requests": {"cpu": needs.cpu, "memory": needs.memory}, "limits": {"memory": needs.most}},
        "securityContext": locked_in(),
        "volumeMounts": mounts(room),
    }
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": needs.grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",  # else each start changes every file of the workspace
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if room == INDEXER:
        spec["initContainers"] = [index_folder()]
    return spec | {
        "containers": [container],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": "workspace"}},
            # $HOME is here, with downloaded weights; weights/ in the workspace avoids the downloads.
            {"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}},
        ],
    }


def environment(room: str) -> list[Object]:
    """Return the variables from Secrets; the image sets the others. By the token a room knows that there is one."""
    found: list[Object] = [{"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": "finetuner-token", "key": "token"}}}]
    if room == INDEXER:  # in the base, because an index moves to a Qdrant server before the overlay is applied
        key = {"name": "finetuner-qdrant", "key": "api-key", "optional": True}
        found.append({"name": "QDRANT_API_KEY", "valueFrom": {"secretKeyRef": key}})
    return found


def ports(room: str) -> dict[str, int]:
    """Return a room's ports by name."""
    if room == GATEWAY:
        return {"grpc": GRPC_PORT, "http": HTTP_PORT, "metrics": METRICS_PORT}
    return {"grpc": PORT, "metrics": METRICS_PORT}


def probes(port: int) -> Object:
    """Return probes of gRPC's health service, which cost nothing; each `exec` would start Python.

    The gateway's is not /healthz, also at its start: that one fails while an encoder cannot load its model, and then
    somebody must promote another, through the gateway.
    """

    def probe(period: int, failures: int, timeout: int) -> Object:
        seconds = {"periodSeconds": period, "timeoutSeconds": timeout}
        return {"grpc": {"port": port}, **seconds, "failureThreshold": failures}

    return {
        "startupProbe": probe(5, 60, 5),  # five minutes: large models load first
        "readinessProbe": probe(5, 6, 5),
        "livenessProbe": probe(20, 6, 10),  # two minutes: a busy room answers late
    }


def mounts(room: str) -> list[Object]:
    """Return the volumes and mounts of a room."""
    found: list[Object] = [{"name": "workspace", "mountPath": WORKSPACE}, {"name": "tmp", "mountPath": "/tmp"}]
    if room == INDEXER:
        # The index maps files into memory, so it has its own disk, independent of the workspace. It lies in a
        # subfolder, because a file system's lost+found is not a collection.
        found.append({"name": "index", "mountPath": f"{WORKSPACE}/index", "subPath": "index"})
    return found


def index_folder() -> Object:
    """Return the container that creates the index folder: the runtime would create it as root, or fail on NFS."""
    return {
        "name": "index-folder",
        "image": IMAGE,
        "imagePullPolicy": PULL,
        "command": ["mkdir", "-p", f"{WORKSPACE}/index"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": locked_in(),
        "volumeMounts": [{"name": "workspace", "mountPath": WORKSPACE}],
    }


def locked_in() -> Object:
    """Return the security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def own_service(room: str) -> Object:
    """Return a room's Service. The name of an executor resolves to all pods, and the gateway chooses among them."""
    protocols = {"grpc": H2C, "http": "http", "metrics": "http"}
    spec: Object = {"type": "ClusterIP"} if room == GATEWAY else {"clusterIP": "None"}
    return made(
        "v1",
        "Service",
        room,
        spec
        | {
            "selector": labels(room),
            "ports": [
                {"name": name, "port": port, "targetPort": name, "appProtocol": protocols[name]}
                for name, port in ports(room).items()
            ],
        },
    )


def disruption_budget(room: str) -> Object:
    """Return a budget that allows draining a node even for a room with one pod; `minAvailable: 1` would block it."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels(room)}}
    return made("policy/v1", "PodDisruptionBudget", room, spec)


def network_policy(room: str) -> Object:
    """Return a room's allowed traffic besides DNS and metrics: requests to a room need no token."""
    gateway = [{"podSelector": {"matchLabels": labels(GATEWAY)}}]
    rooms = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}}}]
    spec: Object = {"podSelector": {"matchLabels": labels(room)}, "policyTypes": ["Ingress", "Egress"]}
    if room == GATEWAY:  # from everywhere: the gateway requires a token
        spec |= {"ingress": [{"ports": listening(GRPC_PORT, HTTP_PORT)}]}
        spec |= {"egress": [{"to": rooms, "ports": listening(PORT)}]}
    else:
        spec |= {"ingress": [{"from": gateway, "ports": listening(PORT)}]}
    if room == INDEXER:  # a re-index encodes through the gateway
        spec |= {"egress": [{"to": gateway, "ports": listening(GRPC_PORT)}]}
    if NEEDS.get(room, Needs()).outside:
        spec |= {"egress": [{"to": [{"ipBlock": PUBLIC}], "ports": listening(80, 443)}]}
    return made("networking.k8s.io/v1", "NetworkPolicy", room, spec)


def listening(*numbers: int) -> list[Object]:
    """Return TCP ports of a policy."""
    return [{"protocol": "TCP", "port": number} for number in numbers]


def labels(room: str) -> dict[str, str]:
    """Return the labels of a room's objects, which select its pods."""
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": service(room)}


def made(version: str, kind: str, room: str, spec: Object) -> Object:
    """Return an object of a room."""
    metadata = {"name": service(room), "labels": labels(room)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, as yamllint requires, without anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def in_yaml(document: Object) -> str:
    """Return a document as text, in its order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120))


def main(folder: Path = BASE) -> None:
    """Write the files, and remove the files of removed rooms."""
    files = written(flow_file())
    for old in folder.glob("*.yaml"):
        if old.name not in (*files, *BY_HAND):
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
