"""Writes what of base/ follows from flows/finetuner.yml: `make manifests`.

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
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, PORT, Standing

Object = dict[str, Any]

BASE = Path(__file__).parent / "base"
BY_HAND = ("namespace.yaml", "network.yaml", "workspace.yaml")
HEADER = """\
# Written by flows/kubernetes/generate.py from flows/finetuner.yml: `make manifests`. The reasons stand there.
"""
NAME = "finetuner"
INDEXER = "indexer"  # the one room with a disk of its own
IMAGE = "open-finetuner:latest"
PULL = "IfNotPresent"  # of `latest` Always is the default, which finds no image that was only loaded into a node
WORKSPACE = "/workspace"
USER = 10001  # the image's
GRPC_PORT, HTTP_PORT = Standing().gateway_ports
H2C = "kubernetes.io/h2c"  # gRPC without TLS
# For images by address, weights and trackers. Of private networks there is nothing that a caller may have read.
PUBLIC = {
    "cidr": "0.0.0.0/0",
    "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"],
}


@dataclass(frozen=True)
class Needs:
    """What a room needs beside what the Flow says."""

    cpu: str = "250m"
    """Cores that it is promised."""
    memory: str = "1Gi"
    """That it is promised."""
    most: str = "6Gi"
    """Memory past which it is ended; a large model takes gigabytes."""
    single: bool = False
    """Whether it holds a lock of the workspace, so that a second one would not start."""
    outside: bool = False
    """Whether it fetches images or weights."""
    grace: int = 30
    """Seconds to stop in; a room finishes its requests in 6."""


NEEDS = {
    GATEWAY: Needs(memory="512Mi", most="2Gi"),
    # A run writes its checkpoint in 60 s.
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
    """Return the name under which others find a room, also that of all its objects."""
    return Standing().address(room)[0]


def objects(room: str, replicas: int) -> list[Object]:
    """Return what Kubernetes is told of a room."""
    return [workload(room, replicas), own_service(room), disruption_budget(room), network_policy(room)]


def workload(room: str, replicas: int) -> Object:
    """Return what keeps a room's pods: a StatefulSet, which never starts a second one, where there may be one only."""
    needs = NEEDS.get(room, Needs())
    spec: Object = {"replicas": 1 if needs.single else replicas, "selector": {"matchLabels": labels(room)}}
    if needs.single:
        spec |= {"serviceName": service(room), "updateStrategy": {"type": "RollingUpdate"}}
    else:  # the new one answers before the old one goes
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        spec |= {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
    spec["template"] = {
        "metadata": {
            # By the labels `job` and `room`, which Prometheus' usual job for pods takes over, monitoring/ works here.
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
    """Return a room's pod, as the `restricted` standard has it."""
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
        # Who sends requests here has heard that it goes before it takes no more.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}},
        # Cores without a limit: what is idle may be used, and a room that is held back answers its probes late.
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
            "fsGroupChangePolicy": "OnRootMismatch",  # else each start goes through every file of the workspace
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if room == INDEXER:
        spec["initContainers"] = [index_folder()]
    return spec | {
        "containers": [container],
        "volumes": [
            {"name": "workspace", "persistentVolumeClaim": {"claimName": "workspace"}},
            # $HOME is here, and so are weights that are downloaded, which weights/ in the workspace would save.
            {"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}},
        ],
    }


def environment(room: str) -> list[Object]:
    """Return what comes from Secrets; the image sets the rest."""
    if room == GATEWAY:
        return [{"name": TOKEN, "valueFrom": {"secretKeyRef": {"name": "finetuner-token", "key": "token"}}}]
    if room == INDEXER:  # here and not where a Qdrant server is, since an index is moved to it before
        key = {"name": "finetuner-qdrant", "key": "api-key", "optional": True}
        return [{"name": "QDRANT_API_KEY", "valueFrom": {"secretKeyRef": key}}]
    return []


def ports(room: str) -> dict[str, int]:
    """Return a room's ports by name."""
    if room == GATEWAY:
        return {"grpc": GRPC_PORT, "http": HTTP_PORT, "metrics": METRICS_PORT}
    return {"grpc": PORT, "metrics": METRICS_PORT}


def probes(port: int) -> Object:
    """Return probes by gRPC's health service, which is free; each `exec` would start Python.

    The gateway's is not /healthz, also at its start: that one fails while an encoder cannot load its model, and then
    somebody must promote another, through the gateway.
    """

    def probe(period: int, failures: int, timeout: int) -> Object:
        seconds = {"periodSeconds": period, "timeoutSeconds": timeout}
        return {"grpc": {"port": port}, **seconds, "failureThreshold": failures}

    return {
        "startupProbe": probe(5, 60, 5),  # five minutes: models of gigabytes are loaded first
        "readinessProbe": probe(5, 6, 5),
        "livenessProbe": probe(20, 6, 10),  # two minutes: a room that computes answers late
    }


def mounts(room: str) -> list[Object]:
    """Return where a room may write."""
    found: list[Object] = [{"name": "workspace", "mountPath": WORKSPACE}, {"name": "tmp", "mountPath": "/tmp"}]
    if room == INDEXER:
        # The index maps files into memory, so it is on a disk of its own, wherever the workspace is; in a folder
        # there, since a file system's lost+found is no collection.
        found.append({"name": "index", "mountPath": f"{WORKSPACE}/index", "subPath": "index"})
    return found


def index_folder() -> Object:
    """Return what makes the folder under the mount of the index: the runtime's would be root's, or fail on NFS."""
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
    """Return what a container may not."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def own_service(room: str) -> Object:
    """Return a room's name and ports; an executor's name has each pod's address, among which the gateway chooses."""
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
    """Return one that lets a node be emptied also where a room has one pod; `minAvailable: 1` would not, for ever."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": labels(room)}}
    return made("policy/v1", "PodDisruptionBudget", room, spec)


def network_policy(room: str) -> Object:
    """Return who reaches a room and whom it reaches, beside DNS and metrics: a room trusts whoever reaches it."""
    gateway = [{"podSelector": {"matchLabels": labels(GATEWAY)}}]
    rooms = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}}}]
    spec: Object = {"podSelector": {"matchLabels": labels(room)}, "policyTypes": ["Ingress", "Egress"]}
    if room == GATEWAY:  # from everywhere: it asks for a token
        spec |= {"ingress": [{"ports": listening(GRPC_PORT, HTTP_PORT)}]}
        spec |= {"egress": [{"to": rooms, "ports": listening(PORT)}]}
    else:
        spec |= {"ingress": [{"from": gateway, "ports": listening(PORT)}]}
    if room == INDEXER:  # it encodes again by the gateway
        spec |= {"egress": [{"to": gateway, "ports": listening(GRPC_PORT)}]}
    if NEEDS.get(room, Needs()).outside:
        spec |= {"egress": [{"to": [{"ipBlock": PUBLIC}], "ports": listening(80, 443)}]}
    return made("networking.k8s.io/v1", "NetworkPolicy", room, spec)


def listening(*numbers: int) -> list[Object]:
    """Return TCP ports of a policy."""
    return [{"protocol": "TCP", "port": number} for number in numbers]


def labels(room: str) -> dict[str, str]:
    """Return what a room's objects carry, and its pods are found by."""
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": service(room)}


def made(version: str, kind: str, room: str, spec: Object) -> Object:
    """Return an object of a room."""
    metadata = {"name": service(room), "labels": labels(room)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, as yamllint has it, and no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def in_yaml(document: Object) -> str:
    """Return a document as text, in its own order."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120))


def main(folder: Path = BASE) -> None:
    """Write the files, and remove those of rooms that the Flow has no more."""
    files = written(flow_file())
    for old in folder.glob("*.yaml"):
        if old.name not in (*files, *BY_HAND):
            old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
