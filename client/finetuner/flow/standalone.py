"""One room of a Flow by itself: `finetuner room NAME`, what a container runs.

The Flow's YAML stays the one place for settings. Rooms find one another by name: `text_encoder` is text-encoder:8080.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..exceptions import FinetunerServerError, InvalidInput
from .launch import lock_required, prepare_jina
from .room_process import run_room
from .settings import located

GATEWAY = "gateway"
PORT, METRICS_PORT = 8080, 9090  # those of Jina's own manifests
# A room's name may have many addresses, which come and go. As gRPC comes, the gateway would stay with the first one,
# and wait up to two minutes before it tries again one that was down.
FOLLOW = {
    "grpc.lb_policy_name": "round_robin",
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.dns_min_time_between_resolutions_ms": 2_000,
}
# It looks for new addresses when a connection ends, so each ends after a minute, once its requests are answered.
LEAD_ON = {"grpc.max_connection_age_ms": 60_000, "grpc.max_connection_age_grace_ms": 1_800_000}


@dataclass(frozen=True)
class Standing:
    """Where a room stands, and what differs from its YAML."""

    workspace: str | os.PathLike[str] = "workspace"
    """Folder that all rooms of the Flow share."""
    bind: str = "0.0.0.0"
    """Address that it listens on."""
    port: int = PORT
    """Of gRPC, 1 to 65535; not the gateway's."""
    gateway_ports: tuple[int, int] = (51000, 51001)
    """Its ports of gRPC and HTTP."""
    metrics_port: int = METRICS_PORT
    """Of the metrics, which ask for no token."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """HOST:PORT by room, where it is another one than by name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of `uses_with`, instead of the YAML's."""

    def __post_init__(self) -> None:
        for port in (self.port, *self.gateway_ports, self.metrics_port):
            if not 1 <= port <= 65535:
                raise InvalidInput(f"a port must be 1 to 65535. Got {port}. Other rooms must find it.")

    def address(self, room: str) -> tuple[str, int]:
        """Return where the other rooms find this one.

        Raises:
            InvalidInput: an address that is not HOST:PORT.
        """
        default = f"{room.replace('_', '-')}:{self.gateway_ports[0] if room == GATEWAY else PORT}"
        host, _, port = self.addresses.get(room, default).rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidInput(f"the address of {room} must be HOST:PORT. Got {self.addresses[room]!r}.")
        return host, int(port)


def named_values(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Return what NAME=VALUE options say; a value is read as YAML reads it, so that 2 is a number and false is one.

    Raises:
        InvalidInput: one without a name.
    """
    import yaml

    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            raise InvalidInput(f"{option} must be NAME=VALUE. Got {entry!r}.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[name] = value
    return found


def standing_alone(flow: Path, name: str, where: Standing) -> dict[str, Any]:
    """Return the content of a Flow's YAML in which one room is to be started here, and the others are elsewhere.

    Args:
        flow: the YAML.
        name: of the room.
        where: it stands.

    Raises:
        InvalidInput: no such room, or an address of one that the Flow does not have.
    """
    content = located(flow, where.workspace)
    rooms = {GATEWAY: content["gateway"]} | {room["name"]: room for room in content["executors"]}
    if name not in rooms:
        raise InvalidInput(f"room must be one of {', '.join(rooms)}, which {flow.name} has. Got {name!r}.")
    if unknown := sorted(set(where.addresses) - set(rooms)):
        raise InvalidInput(f"addresses must be of {', '.join(rooms)}. Got one of {', '.join(unknown)}.")
    for other, room in rooms.items():
        host, port = where.address(other)
        if other != GATEWAY:
            room |= {"host": host, "port": port, "replicas": 1, "port_monitoring": where.metrics_port}
        if room.get("uses_with", {}).get("encoder"):  # the indexer asks this Flow to encode
            room["uses_with"]["encoder"] = "grpc://{}:{}".format(*where.address(GATEWAY))
    own = rooms[name]
    own["uses_with"] = own.get("uses_with", {}) | where.settings
    own |= {"host": where.bind, "port_monitoring": where.metrics_port}
    if name == GATEWAY:
        own["port"] = list(where.gateway_ports)
        content["with"]["grpc_channel_options"] |= FOLLOW
    else:
        own["port"] = where.port
        own["grpc_server_options"] |= LEAD_ON
        content["executors"] = [own]
    return content


def serve_room(flow: Path, name: str, where: Standing) -> NoReturn:
    """Start one room in this process and keep it up until SIGTERM or SIGINT; what is under way then is finished.

    Does not return: the process ends with exit code 0, as a room of a whole Flow ends, without Python's own end, which
    takes torch seconds and aborts where one of its threads still computes.

    Args:
        flow: its YAML.
        name: 'gateway', or an executor's.
        where: it stands.

    Raises:
        InvalidInput: what cannot be, and a gateway that other machines reach while there is no token.
        FinetunerServerError: the room does not start; its log lines stand above.
    """
    content = standing_alone(flow, name, where)
    if name == GATEWAY:
        lock_required(where.bind, where.workspace)
    prepare_jina()
    from jina import Flow

    flow_of_one = Flow.load_config(content).build()
    args = flow_of_one._deployment_nodes[name].pod_args["pods"][0][0]
    started = threading.Event()
    threading.Thread(target=_tell, args=(started, name, where), daemon=True).start()
    run_room(
        where.bind,
        args=args,
        name=args.name,
        runtime_cls=args.runtime_cls,
        envs=args.env or {},
        is_started=threading.Event(),
        is_signal_handlers_installed=threading.Event(),
        is_shutdown=threading.Event(),
        is_ready=started,
    )
    if not started.is_set():  # Jina has logged why
        raise FinetunerServerError(f"The {name} did not start. The lines above say why")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _tell(started: threading.Event, name: str, where: Standing) -> None:
    started.wait()
    ports = "{}, HTTP {}".format(*where.gateway_ports) if name == GATEWAY else where.port
    print(f"{name} is up on {where.bind}: gRPC {ports}, metrics {where.metrics_port}", flush=True)
