"""Runs one room of a Flow by itself, as a container does: `finetuner room NAME`.

The Flow's YAML stays the only source of settings. Rooms find one another by name: the room `text_encoder` listens at
text-encoder:8080.
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
from ..models.lean_open_clip import import_lean
from .launch import own_rooms, prepare_jina, token_required
from .room_process import run_room
from .server_packages import require_server
from .settings import load_flow

GATEWAY = "gateway"
ENCODERS = {"text_encoder", "vision_encoder"}  # they load a model at their start
PORT, METRICS_PORT = 8080, 9090  # the ports of Jina's own manifests
# A room's name can have many addresses, and they change. With gRPC's defaults, the gateway keeps using the first
# address and waits up to two minutes before it retries one that was down.
CLIENT_CHANNEL_OPTIONS = {
    "grpc.lb_policy_name": "round_robin",
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.dns_min_time_between_resolutions_ms": 2_000,
}
# gRPC resolves names again only when a connection ends. Each connection therefore ends after a minute, once its
# requests are answered.
SERVER_CHANNEL_OPTIONS = {"grpc.max_connection_age_ms": 60_000, "grpc.max_connection_age_grace_ms": 1_800_000}


@dataclass(frozen=True)
class RoomOptions:
    """Options of one room that override its Flow's YAML.

    Raises:
        InvalidInput: a port is out of range.
    """

    workspace: str | os.PathLike[str] = "workspace"
    """Folder that all rooms of the Flow share."""
    bind: str = "0.0.0.0"
    """Address that the room listens on."""
    port: int = PORT
    """gRPC port of an executor, 1 to 65535; the gateway has its own ports."""
    gateway_ports: tuple[int, int] = (51000, 51001)
    """gRPC and HTTP port of the gateway."""
    metrics_port: int = METRICS_PORT
    """Port of the metrics, which require no token."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """HOST:PORT by room, for rooms that their names do not lead to."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `uses_with` that replace the YAML's."""

    def __post_init__(self) -> None:
        for port in (self.port, *self.gateway_ports, self.metrics_port):
            if not 1 <= port <= 65535:
                raise InvalidInput(f"a port must be 1 to 65535. Got {port}. Choose a fixed one: other rooms use it.")

    def address(self, room: str) -> tuple[str, int]:
        """Return the host and port at which the other rooms reach a room.

        Raises:
            InvalidInput: the given address is not HOST:PORT.
        """
        default = f"{room.replace('_', '-')}:{self.gateway_ports[0] if room == GATEWAY else PORT}"
        host, _, port = self.addresses.get(room, default).rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidInput(f"the address of {room} must be HOST:PORT. Got {self.addresses[room]!r}. Correct it.")
        return host, int(port)


def named_values(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Return the values of repeated NAME=VALUE options. Values are parsed as YAML: 2 is a number, false a boolean.

    Args:
        option: name of the option, for error messages.
        given: its values on the command line.

    Raises:
        InvalidInput: an entry is not NAME=VALUE.
    """
    import yaml

    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            raise InvalidInput(f"{option} must be NAME=VALUE. Got {entry!r}. Add the missing part.")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[name] = value
    return found


def standalone_flow(flow: Path, name: str, options: RoomOptions) -> dict[str, Any]:
    """Return the content of a Flow's YAML in which one room starts here and the others run elsewhere.

    Args:
        flow: the YAML file.
        name: name of the room that starts here.
        options: options of this room.

    Raises:
        InvalidInput: the Flow has no such room, or an address names a room that it does not have.
    """
    content = load_flow(flow, options.workspace)
    rooms = {GATEWAY: content["gateway"]} | {room["name"]: room for room in content["executors"]}
    if name not in rooms:
        raise InvalidInput(f"room must be one of {', '.join(rooms)} in {flow.name}. Got {name!r}. Choose one of them.")
    if unknown := sorted(set(options.addresses) - set(rooms)):
        raise InvalidInput(f"--address must name one of {', '.join(rooms)}. Got {', '.join(unknown)}. Correct it.")
    for other, room in rooms.items():
        host, port = options.address(other)
        if other != GATEWAY:
            room |= {"host": host, "port": port, "replicas": 1, "port_monitoring": options.metrics_port}
        if room.get("uses_with", {}).get("encoder"):  # the indexer sends documents to this Flow to encode them
            room["uses_with"]["encoder"] = "grpc://{}:{}".format(*options.address(GATEWAY))
    own = rooms[name]
    own["uses_with"] = own.get("uses_with", {}) | options.settings
    own |= {"host": options.bind, "port_monitoring": options.metrics_port}
    if name == GATEWAY:
        own["port"] = list(options.gateway_ports)
        content["with"]["grpc_channel_options"] |= CLIENT_CHANNEL_OPTIONS
    else:
        own["port"] = options.port
        own["grpc_server_options"] |= SERVER_CHANNEL_OPTIONS
        content["executors"] = [own]
    return content


def serve_room(flow: Path, name: str, options: RoomOptions) -> NoReturn:
    """Run one room in this process until SIGTERM or SIGINT, and then finish its open requests.

    This function does not return. It ends the process with exit code 0 like a room of a whole Flow, and skips Python's
    own shutdown: that takes torch seconds, and aborts if one of its threads still computes.

    Args:
        flow: the Flow's YAML file.
        name: 'gateway' or the name of an executor.
        options: options of this room.

    Raises:
        InvalidInput: an option is not allowed, or other machines could reach a gateway without a token.
        FinetunerServerError: the room did not start; its log lines state the reason.
    """
    require_server()
    content = standalone_flow(flow, name, options)
    if name == GATEWAY:
        token_required(options.bind, options.workspace)
    prepare_jina()
    if own_rooms(content) & ENCODERS:
        import_lean()
    from jina import Flow

    single_room = Flow.load_config(content).build()
    args = single_room._deployment_nodes[name].pod_args["pods"][0][0]
    ready = threading.Event()
    threading.Thread(target=_announce, args=(ready, name, options), daemon=True).start()
    run_room(
        options.bind,
        args=args,
        name=args.name,
        runtime_cls=args.runtime_cls,
        envs=args.env or {},
        is_started=threading.Event(),
        is_signal_handlers_installed=threading.Event(),
        is_shutdown=threading.Event(),
        is_ready=ready,
    )
    if not ready.is_set():  # Jina has logged the reason
        raise FinetunerServerError(f"The {name} did not start. The lines above state the reason")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _announce(ready: threading.Event, name: str, options: RoomOptions) -> None:
    ready.wait()
    ports = "{}, HTTP {}".format(*options.gateway_ports) if name == GATEWAY else options.port
    print(f"{name} is up on {options.bind}: gRPC {ports}, metrics {options.metrics_port}", flush=True)
