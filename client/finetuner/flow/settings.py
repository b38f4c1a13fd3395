"""A Flow's YAML with this start's values in it: ports, workspace, paths; and where the Flow can then be reached."""

from __future__ import annotations

import os
import socket
import ssl
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
    """What the gateway shows for TLS.

    Raises:
        InvalidInput: files that are not there, are no PEM, or do not belong together.
    """

    file: Path
    """The certificate, PEM, with those between it and its authority."""
    key: Path
    """Its private key, PEM, without a passphrase."""

    def __post_init__(self) -> None:
        for option, path in (("--tls-cert", self.file), ("--tls-key", self.key)):
            if not path.is_file():
                raise InvalidInput(f"{option} must be a PEM file. Got {path}, which is not there.")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.file, self.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidInput(
                "--tls-cert and --tls-key must be a certificate and its private key, PEM, without a passphrase. "
                f"Got {self.file} and {self.key}: {error}."
            ) from None


def flow_file(name: str = "finetuner") -> Path:
    """Return a Flow's YAML: of $FINETUNER_FLOWS, or of the checkout that this package runs from.

    Args:
        name: 'finetuner' (everything), 'encode' or 'search'; in $FINETUNER_FLOWS whatever YAML there is.

    Raises:
        InvalidInput: no such Flow, or none at all, as in an installed wheel, which holds the client alone.
    """
    folder = Path(os.environ.get(FLOWS) or Path(__file__).parents[3] / "flows")
    found = {path.stem: path for path in sorted(folder.glob("*.yml"))}
    if not found:
        raise InvalidInput(
            f"Expected the Flow's YAML in {folder}. Found none: the wheel holds the client, not the server. "
            f"Run from a checkout of the repository, or set {FLOWS} to its folder flows/."
        )
    if name not in found:
        raise InvalidInput(f"flow must be one of {', '.join(found)}. Got {name!r}. Choose one, or set {FLOWS}.")
    return found[name]


@contextmanager
def configured(
    flow: Path,
    *,
    workspace: str | os.PathLike[str],
    grpc_port: int,
    http_port: int,
    bind: str | None = None,
    certificate: Certificate | None = None,
) -> Iterator[dict[str, Any]]:
    """Give the content of a Flow's YAML with these values in it and paths that hold from every folder.

    Its ports are bound until the block ends, so that the system gives none of them to others before a room listens
    there, or while one is started again. Rooms listen there all the same: servers set SO_REUSEADDR, as we do.

    Args:
        flow: the YAML.
        workspace: folder (or file:// URL) that the rooms share.
        grpc_port: the gateway's port; 0 lets the system choose, and then the ports of the metrics, too.
        http_port: likewise.
        bind: address that the gateway listens on; the YAML's where None.
        certificate: for TLS on both ports. A third one on loopback, without TLS, is for the indexer then: the
            certificate is for the name by which others know this machine.

    Raises:
        InvalidInput: a port that is none or taken, or a workspace that cannot be.
    """
    content = located(flow, workspace)
    rooms = [content["gateway"], *content["executors"]]
    if bind is not None:
        content["gateway"]["host"] = bind
    host = content["gateway"].get("host", "0.0.0.0")
    with ExitStack() as held:
        content["gateway"]["port"] = [
            _port(grpc_port, host, "--grpc-port", held),
            _port(http_port, host, "--http-port", held),
        ]
        own = addresses(content).grpc
        if certificate is not None:
            inner = _port(0, "127.0.0.1", "", held)
            content["gateway"]["port"].append(inner)
            content["gateway"]["protocol"].append("grpc")
            content["gateway"] |= {
                "ssl_certfile": str(certificate.file.resolve()),
                "ssl_keyfile": str(certificate.key.resolve()),
            }
            own = f"grpc://127.0.0.1:{inner}"
        for room in rooms:
            if room.get("uses_with", {}).get("encoder"):  # the indexer asks this Flow to encode
                room["uses_with"]["encoder"] = own
            # Nobody asked for these numbers, so one that is taken is no reason to fail.
            ports = [
                _port(port if grpc_port and _free(port) else 0, "0.0.0.0", "", held) for port in _metrics_ports(room)
            ]
            room["port_monitoring"] = ports if len(ports) > 1 else ports[0]
        yield content


def located(flow: Path, workspace: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of a Flow's YAML with paths that hold from every folder, and this workspace."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(flow.read_text())
    place = Workspace(workspace).root
    for room in [content["gateway"], *content["executors"]]:
        if (path := flow.parent / room["uses"]).is_file():  # otherwise it is the name of a class
            room["uses"] = str(path.resolve())
        if "workspace_url" in room.get("uses_with", {}):
            room["uses_with"]["workspace_url"] = str(place)
    return content


def _metrics_ports(room: dict[str, Any]) -> list[int]:
    """Return the port of each replica's metrics."""
    ports = room["port_monitoring"]
    return ports if isinstance(ports, list) else [ports]


def _free(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("0.0.0.0", port))
        return True
    return False


def _port(port: int, host: str, option: str, held: ExitStack) -> int:
    if not 0 <= port <= 65535:
        raise InvalidInput(f"{option} must be 0 (the system chooses) to 65535. Got {port}.")
    holder = held.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that only waits out old connections is free
    try:
        holder.bind((host, port))
    except OSError as error:
        raise InvalidInput(
            f"Port {port} cannot be used: {error.strerror}. Stop what listens there (another Flow?), or choose "
            f"another port with {option}; 0 lets the system choose."
        ) from None
    return int(holder.getsockname()[1])


def addresses(content: dict[str, Any]) -> Addresses:
    """Return where the Flow of this YAML content can be reached once this process has started it."""
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
