"""Reads a Flow's YAML and fills in the settings of this start: ports, workspace, TLS and absolute paths."""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.environment import FLOWS
from ..exceptions import InvalidInput
from ..transport.probes import Addresses
from ..workspace.folder import Workspace


@dataclass(frozen=True)
class Certificate:
    """The gateway's TLS certificate and its key.

    Raises:
        InvalidInput: a file does not exist or is not PEM, or the two do not belong together.
    """

    file: Path
    """The certificate, PEM, followed by the intermediate certificates up to its authority."""
    key: Path
    """Its private key, PEM, without a passphrase."""

    def __post_init__(self) -> None:
        for option, path in (("--tls-cert", self.file), ("--tls-key", self.key)):
            if not path.is_file():
                raise InvalidInput(f"{option} must be a PEM file. Got {path}, which does not exist. Correct the path.")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.file, self.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidInput(
                "--tls-cert and --tls-key must be a certificate and its private key, PEM, without a passphrase. "
                f"Got {self.file} and {self.key}: {error}."
            ) from None


def flow_file(name: str = "finetuner") -> Path:
    """Return the path of a Flow's YAML in $FINETUNER_FLOWS, else of this package.

    Args:
        name: 'finetuner' (everything), 'encode' or 'search'; with $FINETUNER_FLOWS, any YAML file there by its stem.
            With the ending .yml or .yaml, the path of a file.

    Raises:
        InvalidInput: the folder has no such Flow, or the file does not exist.
    """
    if name.endswith((".yml", ".yaml")):
        if not Path(name).is_file():
            raise InvalidInput(f"flow must be an existing YAML file. Got {name!r}. Correct the path.")
        return Path(name)
    folder = Path(os.environ.get(FLOWS) or Path(__file__).parents[1] / "flows")
    found = {path.stem: path for path in sorted(folder.glob("*.yml"))}
    if not found:
        raise InvalidInput(f"{FLOWS} must be a folder with YAMLs. Got {folder}, which has none. Unset or correct it.")
    if name not in found:
        raise InvalidInput(f"flow must be one of {', '.join(found)}. Got {name!r}. Choose one, or set {FLOWS}.")
    return found[name]


def read_flow(flow: Path) -> str:
    """Return the text of a Flow's YAML in which the paths of rooms are absolute."""
    return re.sub(
        r"^(\s*uses: )(\S+\.yml)$",
        lambda found: found[1] + str((flow.parent / found[2]).resolve()),
        flow.read_text(),
        flags=re.MULTILINE,
    )


def load_flow(flow: Path, workspace: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a Flow's YAML with absolute paths and this workspace.

    Args:
        flow: the YAML file.
        workspace: folder (or file:// URL) that the rooms share.
    """
    import yaml

    content: dict[str, Any] = yaml.safe_load(flow.read_text())
    root = Workspace(workspace).root
    for room in [content["gateway"], *content["executors"]]:
        if (path := flow.parent / room["uses"]).is_file():  # otherwise `uses` is the name of a class
            room["uses"] = str(path.resolve())
        if "workspace_url" in room.get("uses_with", {}):
            room["uses_with"]["workspace_url"] = str(root)
    return content


@contextmanager
def configured_flow(
    flow: Path,
    *,
    workspace: str | os.PathLike[str],
    grpc_port: int,
    http_port: int,
    bind: str | None = None,
    certificate: Certificate | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the content of a Flow's YAML with these settings, and reserve its ports until the block ends.

    A reserved port is bound, so the system gives it to no other process before a room listens there or while a room
    restarts. The rooms can still listen there, because they set SO_REUSEADDR like this process.

    Args:
        flow: the YAML file.
        workspace: folder (or file:// URL) that the rooms share.
        grpc_port: the gateway's gRPC port; 0 lets the system choose it, and the ports of the metrics as well.
        http_port: the gateway's HTTP port; 0 lets the system choose it.
        bind: address that the gateway listens on; None takes the YAML's.
        certificate: enables TLS on both ports. The gateway then gets a third port on loopback without TLS for the
            indexer, since the certificate is valid for this machine's public name only.

    Raises:
        InvalidInput: a port is out of range or taken, or the workspace is not a valid folder.
    """
    content = load_flow(flow, workspace)
    rooms = [content["gateway"], *content["executors"]]
    if bind is not None:
        content["gateway"]["host"] = bind
    host = content["gateway"].get("host", "0.0.0.0")
    with ExitStack() as reserved:
        content["gateway"]["port"] = [
            reserve_port(grpc_port, host, "--grpc-port", reserved),
            reserve_port(http_port, host, "--http-port", reserved),
        ]
        encoder = flow_addresses(content).grpc
        if certificate is not None:
            loopback_port = reserve_port(0, "127.0.0.1", "", reserved)
            content["gateway"]["port"].append(loopback_port)
            content["gateway"]["protocol"].append("grpc")
            content["gateway"] |= {
                "ssl_certfile": str(certificate.file.resolve()),
                "ssl_keyfile": str(certificate.key.resolve()),
            }
            encoder = f"grpc://127.0.0.1:{loopback_port}"
        for room in rooms:
            if room.get("uses_with", {}).get("encoder"):  # the indexer sends documents to this Flow to encode them
                room["uses_with"]["encoder"] = encoder
            # The user did not choose these ports, so a taken one is replaced instead of raising an error.
            ports = [_reserve_free(port if grpc_port else 0, "0.0.0.0", reserved) for port in _metrics_ports(room)]
            room["port_monitoring"] = ports if len(ports) > 1 else ports[0]
        for room in content["executors"]:  # Jina would choose ports that another Flow, starting now, may choose as well
            ports = [_reserve_free(0, "127.0.0.1", reserved) for _ in range(room.get("replicas", 1))]
            room |= {"port": ports[0]} if len(ports) == 1 else {"peer_ports": {"0": ports}}
        yield content


def _metrics_ports(room: dict[str, Any]) -> list[int]:
    """Return the metrics port of each replica."""
    ports = room["port_monitoring"]
    return ports if isinstance(ports, list) else [ports]


def reserve_port(port: int, host: str, option: str, reserved: ExitStack) -> int:
    """Reserve a port until `reserved` closes, and return its number.

    Raises:
        InvalidInput: the port is out of range or taken.
    """
    if not 0 <= port <= 65535:
        raise InvalidInput(f"{option} must be 0 (the system chooses) to 65535. Got {port}. Choose another port.")
    try:
        return _reserve(port, host, reserved)
    except OSError as error:
        raise InvalidInput(
            f"Port {port} cannot be used: {error.strerror}. Stop the process that listens there (another Flow?), or "
            f"choose another port with {option}; 0 lets the system choose."
        ) from None


def _reserve_free(port: int, host: str, reserved: ExitStack) -> int:
    """Reserve a port, or one that the system chooses if it is taken."""
    with suppress(OSError):
        return _reserve(port, host, reserved)
    return _reserve(0, host, reserved)


def _reserve(port: int, host: str, reserved: ExitStack) -> int:
    """Bind a port and claim its number.

    Until one of them listens, any number of processes can bind a port with SO_REUSEADDR. So each also binds a name in
    Linux's abstract namespace, which only one can.

    Raises:
        OSError: the port is taken.
    """
    with ExitStack() as held:
        holder = held.enter_context(socket.socket())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        holder.bind((host, port))
        number = int(holder.getsockname()[1])
        if sys.platform == "linux":
            held.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0finetuner-port-{number}")
        reserved.push(held.pop_all())
    return number


def flow_addresses(content: dict[str, Any]) -> Addresses:
    """Return the addresses of the Flow with this YAML content, once this process has started it."""
    host = content["gateway"].get("host", "0.0.0.0")
    reachable = "127.0.0.1" if host == "0.0.0.0" else host
    grpc_port, http_port = content["gateway"]["port"][:2]
    tls = "s" if content["gateway"].get("ssl_certfile") else ""
    rooms = [{**content["gateway"], "name": "gateway"}, *content["executors"]]
    metrics = {}
    for room in rooms:
        ports = _metrics_ports(room)
        for number, port in enumerate(ports):
            name = room["name"] if len(ports) == 1 else f"{room['name']}/{number}"
            metrics[name] = f"http://127.0.0.1:{port}/metrics"
    return Addresses(
        pid=os.getpid(),
        grpc=f"grpc{tls}://{reachable}:{grpc_port}",
        http=f"http{tls}://{reachable}:{http_port}",
        metrics=metrics,
    )
