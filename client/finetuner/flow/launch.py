"""Starts a Flow in this process and keeps it up: `finetuner up`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from functools import cache, partial
from io import StringIO
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..contract.environment import PARENT, PREPARED, TOKEN
from ..database.tokens import tokens_in_use
from ..database.url import check_database
from ..exceptions import FinetunerError, FinetunerServerError, InvalidInput
from ..transport.connection import NO_TELEMETRY
from ..transport.probes import FLOW_FILE, Addresses, running
from ..workspace.folder import Workspace, check_layout, keep_files_private, write_atomically
from ..workspace.tokens import is_loopback
from . import prepared
from .processes import KILL_SECONDS, end_processes
from .room_process import show_metrics_on
from .server_packages import load_jina, require_server
from .settings import Certificate, configured_flow, flow_addresses, flow_file
from .supervision import rooms_of, supervise

if TYPE_CHECKING:
    import psutil

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GATEWAY_SECONDS = 9.0  # the gateway finishes its open requests
ROOM_SECONDS = 75.0  # the trainer lets a run write its checkpoint
EXECUTORS = (Path(__file__).parents[1] / "executors").resolve()  # a link in a checkout; paths of rooms are resolved
OF_RUNS = {"finetuner.executors.trainer.worker": ("finetuner.executors.trainer.execution", "torch._dynamo")}
"""What a run imports. torch's optimizers take its compiler, 3 s, even where nothing is compiled."""
CREATE_TOKEN = "Create one with `finetuner token create NAME --role admin --workspace {}`"


def serve(
    flow: Path | None = None,
    *,
    workspace: str | os.PathLike[str],
    grpc_port: int,
    http_port: int,
    bind: str | None = None,
    token: str | None = None,
    certificate: Certificate | None = None,
    metrics_bind: str = "127.0.0.1",
    as_json: bool = False,
) -> None:
    """Start a Flow in this process and keep it up until SIGINT or SIGTERM, then stop every room.

    Args:
        flow: the Flow's YAML file; None takes the package's `flows/finetuner.yml`.
        workspace: folder that the rooms share.
        grpc_port: the gateway's gRPC port; 0 lets the system choose.
        http_port: the gateway's HTTP port; 0 lets the system choose.
        bind: address that the gateway listens on; None takes the YAML's, which is loopback.
        token: admin token that the gateway accepts; None takes $FINETUNER_TOKEN. Without it, and without tokens in the
            workspace, everyone on this machine has access.
        certificate: enables TLS.
        metrics_bind: address that the metrics of all rooms listen on; they require no token.
        as_json: print the content of `flow.json` as one line on stdout once the Flow is up, and all else on stderr.

    Raises:
        InvalidInput: packages are missing, a port is taken, the YAML does not exist, the workspace is not a valid
            folder, or other machines could reach a Flow without a token.
        FinetunerServerError: a room did not start; its log lines are printed before.
    """
    require_server()
    settings = configured_flow(
        flow or flow_file(),
        workspace=workspace,
        grpc_port=grpc_port,
        http_port=http_port,
        bind=bind,
        certificate=certificate,
    )
    with settings as content:
        if token is not None:
            os.environ[TOKEN] = token  # not in the YAML, where Jina would turn digits into a number
        check_layout(root := Workspace(workspace).root)
        check_database(root)
        with_token = token_required(content["gateway"].get("host", "0.0.0.0"), root)
        _serve(content, flow_addresses(content), root, with_token, metrics_bind, as_json)


def token_required(host: str, workspace: str | os.PathLike[str]) -> bool:
    """Return whether the gateway requires a token.

    Args:
        host: address that the gateway listens on.
        workspace: folder that may hold tokens.

    Raises:
        InvalidInput: it requires none, but `host` is reachable from other machines.
    """
    root = Workspace(workspace).root
    required = bool(os.environ.get(TOKEN) or tokens_in_use(root))
    if not required and not is_loopback(host):
        raise InvalidInput(
            f"--bind must be 127.0.0.1 while there is no token, since everyone would have access. Got {host}. "
            f"{CREATE_TOKEN.format(root)}, or set {TOKEN}."
        )
    return required


def prepare_jina() -> None:
    """Set Jina's environment variables before Jina is imported, and cache its table of options."""
    os.environ.setdefault("JINA_LOG_LEVEL", "WARNING")
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    # Each process warns that pkg_resources is deprecated; our pin of setuptools keeps it available to Jina.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:pkg_resources is deprecated:UserWarning")
    lookup = load_jina()
    lookup._build_lookup_table = cache(lookup._build_lookup_table)  # otherwise a second or more for each room


def _serve(
    content: dict[str, Any], addresses: Addresses, root: Path, with_token: bool, metrics_bind: str, as_json: bool
) -> None:
    keep_files_private()
    prepare_jina()
    os.environ.pop(PREPARED, None)  # another Flow's, if a run's process or a test has started this one
    if "JINA_MP_START_METHOD" not in os.environ:
        _prepare_processes(content)
    from jina import Flow
    from rich.console import Console

    console = Console(highlight=False, stderr=as_json)
    _raise_interrupt_on_stop_signals()
    if PARENT in os.environ:
        threading.Thread(target=_end_with_parent, args=(int(os.environ[PARENT]),), daemon=True).start()
    ready, hidden = False, StringIO()
    try:
        with console.status("Starting the Flow ..."), redirect_stdout(hidden):  # Jina prints large tables
            show_metrics_on(metrics_bind)
            if PREPARED in os.environ:
                arguments = (os.environ[PREPARED], OF_RUNS)
                multiprocessing.Process(target=prepared.serve, args=arguments, name="prepared").start()
            flow = Flow.load_config(content)
            # Jina's address table asks three public servers for this machine's address, and hangs without a network.
            flow._get_summary_table = lambda panels: None
            flow.start()
            ready = True
        described = json.dumps(asdict(addresses))
        write_atomically(root / FLOW_FILE, described.encode())
        if as_json:
            print(described, flush=True)
        _announce(console, addresses, root, with_token)
        rooms = rooms_of(flow)  # kept until the end of this function, when no process of theirs runs
        supervise(rooms, _stop_connection(), partial(console.print, soft_wrap=True))
        console.print("Stopping the Flow ...")
    except KeyboardInterrupt:
        console.print("Stopping the Flow ...")
    except FinetunerError:
        raise
    except Exception as error:
        print(hidden.getvalue(), file=sys.stderr)
        raise FinetunerServerError(
            f"The Flow did not start ({type(error).__name__}). The lines above name the failed room and the reason",
            str(error),
        ) from None
    finally:
        _ignore_stop_signals()  # a second Ctrl-C during the shutdown would leave rooms running
        # Jina's own close() sends SIGTERM, too, but to one room after the other, and waits a minute for each dead one.
        if ready:  # the gateway's open requests need the rooms
            end_processes(_rooms("gateway"), GATEWAY_SECONDS)
        end_processes(_rooms(), ROOM_SECONDS if ready else KILL_SECONDS)
        if running(root) == addresses:  # not the file of another Flow in this workspace
            (root / FLOW_FILE).unlink()


def _prepare_processes(content: dict[str, Any]) -> None:
    """Make rooms fork from one clean server process that has done the slow imports.

    A fork of this process would be unsafe: threads of the progress display hold locks here, and CUDA does not survive
    a fork. Spawned processes are clean, but six rooms would import Jina and torch six times.
    """
    from multiprocessing import forkserver, resource_tracker

    # Jina's own variable for this setting makes each process print a warning.
    multiprocessing.set_start_method("forkserver", force=True)
    own = own_rooms(content)
    if "trainer" in own:
        os.environ[PREPARED] = f"{mkdtemp(prefix='finetuner-')}/prepared"  # the rooms inherit it
    multiprocessing.set_forkserver_preload(["jina", *(["torch", f"{__package__}.preload"] if own else [])])
    resource_tracker.ensure_running()
    # Ctrl-C in a terminal reaches every process at once. Rooms must ignore it: this process stops them in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # the rooms inherit this signal mask
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def own_rooms(content: dict[str, Any]) -> set[str]:
    """Return the folders of `executors/` that a Flow's rooms are from; empty for a Flow of others' rooms.

    Args:
        content: of the Flow's YAML, with absolute paths.
    """
    files = [Path(room["uses"]) for room in content["executors"]]
    return {file.parent.name for file in files if file.is_relative_to(EXECUTORS)}


def _announce(console: Any, addresses: Addresses, workspace: Path, with_token: bool) -> None:
    console.print(f"[bold]Open Finetuner is up.[/bold] Workspace {workspace}. Ctrl-C stops it.", soft_wrap=True)
    console.print(f"  page     [bold]{addresses.http}/[/bold]", soft_wrap=True)
    console.print(f"  gRPC     {addresses.grpc}\n  HTTP     {addresses.http}", soft_wrap=True)
    for number, (room, url) in enumerate(addresses.metrics.items()):
        console.print(f"  {'' if number else 'metrics':8} {url}  {room}", soft_wrap=True)
    if not with_token:
        console.print(
            f"There is no token: everyone on this machine has access, other machines have none. "
            f"{CREATE_TOKEN.format(workspace)}.",
            soft_wrap=True,
        )


def _raise_interrupt_on_stop_signals() -> None:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)


def _stop_connection() -> Connection:
    """Return a connection that becomes readable at the first stop signal. The signals interrupt nothing from now on."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: sender.send(None))
    return receiver


def _ignore_stop_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_with_parent(parent: int) -> None:
    """End this process after its parent has ended, even if the parent was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _rooms(name: str = "") -> list[psutil.Process]:
    """Return the processes of all running rooms, or only of those whose name starts with `name`."""
    import psutil

    found = []
    for room in multiprocessing.active_children():  # only rooms; Python's own helper processes end by themselves
        if room.name.startswith(name):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(room.pid))
    return found
