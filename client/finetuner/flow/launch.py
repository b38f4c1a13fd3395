"""Starts the Flow in this process: `finetuner up`."""

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
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..contract.environment import PARENT, TOKEN
from ..exceptions import FinetunerError, FinetunerServerError, InvalidInput
from ..transport.connection import NO_TELEMETRY
from ..transport.probes import Addresses
from ..workspace.folder import Workspace, write_atomically
from ..workspace.tokens import TokenFile, is_loopback
from .processes import KILL_SECONDS, end
from .room_process import show_metrics_on
from .settings import Certificate, addresses, configured, flow_file
from .supervision import keep_up

if TYPE_CHECKING:
    import psutil

GATEWAY_SECONDS = 9.0  # for the requests that are under way
ROOM_SECONDS = 75.0  # the trainer lets a run write its checkpoint
# Jina chooses a room's port long before the room listens. Above those that the system gives to every connection, nobody
# takes it meanwhile.
PORTS_OF_ROOMS = {"JINA_RANDOM_PORT_MIN": "61000"}
MAKE_ONE = "Make one with `finetuner token create NAME --role admin --workspace {}`"


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
) -> None:
    """Start the Flow in this process and keep it up until SIGINT or SIGTERM, then close every room.

    Args:
        flow: its YAML; by default `flows/finetuner.yml` of the checkout.
        workspace: folder that the rooms share.
        grpc_port: port of the gateway; 0 lets the system choose.
        http_port: likewise.
        bind: address that the gateway listens on; the YAML's, loopback, where None.
        token: an admin's; by default $FINETUNER_TOKEN. Without it, and without tokens in the workspace, everybody on
            this machine may enter.
        certificate: for TLS.
        metrics_bind: address that the metrics of all rooms listen on; they ask for no token.

    Raises:
        InvalidInput: a port that is taken, no YAML, a workspace that cannot be, or an address that other machines
            reach while there is no token.
        FinetunerServerError: a room does not start; its log lines stand above.
    """
    settings = configured(
        flow or flow_file(),
        workspace=workspace,
        grpc_port=grpc_port,
        http_port=http_port,
        bind=bind,
        certificate=certificate,
    )
    with settings as content:
        if token is not None:
            os.environ[TOKEN] = token  # not by YAML: Jina would turn digits there into a number
        root = Workspace(workspace).root
        asked = lock_required(content["gateway"].get("host", "0.0.0.0"), root)
        file = root / "flow.json"
        try:
            _serve(content, addresses(content), file, asked, metrics_bind)
        finally:
            file.unlink(missing_ok=True)


def lock_required(host: str, workspace: str | os.PathLike[str]) -> bool:
    """Return whether the gateway asks for a token.

    Raises:
        InvalidInput: it does not, and other machines reach it on `host`.
    """
    root = Workspace(workspace).root
    asked = bool(os.environ.get(TOKEN) or TokenFile(root).read())
    if not asked and not is_loopback(host):
        raise InvalidInput(
            f"--bind must be 127.0.0.1 while there is no token, or everybody may enter. Got {host}. "
            f"{MAKE_ONE.format(root)}, or set {TOKEN}."
        )
    return asked


def prepare_jina() -> None:
    """Set Jina's variables for this process, before it is imported, and let it look up its options once."""
    os.environ.setdefault("JINA_LOG_LEVEL", "WARNING")
    for name, value in (PORTS_OF_ROOMS | NO_TELEMETRY).items():
        os.environ.setdefault(name, value)
    # Jina warns, once in each process, about what our pin of setuptools is there for.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:pkg_resources is deprecated:UserWarning")
    from jina_cli import lookup

    lookup._build_lookup_table = cache(lookup._build_lookup_table)  # a second or more for each room


def _serve(content: dict[str, Any], where: Addresses, file: Path, asked: bool, metrics_bind: str) -> None:
    prepare_jina()
    if "JINA_MP_START_METHOD" not in os.environ:
        _prepare_processes()
    from jina import Flow
    from rich.console import Console

    console = Console(highlight=False)
    _interrupt_on((signal.SIGINT, signal.SIGTERM))
    if PARENT in os.environ:
        threading.Thread(target=_follow, args=(int(os.environ[PARENT]),), daemon=True).start()
    ready, hidden = False, StringIO()
    try:
        with console.status("Starting the Flow ..."), redirect_stdout(hidden):  # Jina prints large tables
            show_metrics_on(metrics_bind)
            starting = Flow.load_config(content)
            # Jina's table of addresses asks three public servers for ours, and waits where there is no network
            starting._get_summary_table = lambda panels: None
            starting.start()
            ready = True
        write_atomically(file, json.dumps(asdict(where)).encode())
        _announce(console, where, file.parent, asked)
        stop = _asked_to_stop((signal.SIGINT, signal.SIGTERM))
        keep_up(starting, stop, partial(console.print, soft_wrap=True))
        console.print("Stopping the Flow ...")
    except KeyboardInterrupt:
        console.print("Stopping the Flow ...")
    except FinetunerError:
        raise
    except Exception as error:
        print(hidden.getvalue(), file=sys.stderr)
        raise FinetunerServerError(
            f"The Flow did not start ({type(error).__name__}). The lines above say which room failed and why",
            str(error),
        ) from None
    finally:
        _ignore((signal.SIGINT, signal.SIGTERM))  # closing is under way; a second Ctrl-C would leave rooms behind
        # SIGTERM is all that Jina's own close() does, but one after the other, with a minute for each that is dead.
        if ready:  # what is under way in the gateway needs the rooms
            end(_rooms("gateway"), GATEWAY_SECONDS)
        end(_rooms(), ROOM_SECONDS if ready else KILL_SECONDS)


def _prepare_processes() -> None:
    """Let rooms start from one clean process that has the slow imports behind it.

    A room forked from this process could not be trusted: threads of the progress display hold locks here, and
    CUDA does not survive a fork. A spawned one is clean, but six of them import Jina and torch six times over.
    """
    from multiprocessing import forkserver, resource_tracker

    # By Jina's own variable for this, each process would print a warning.
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["jina", "torch", "open_clip"])
    resource_tracker.ensure_running()
    # Ctrl-C in a terminal reaches every process at once. The rooms must not hear it: we close them, in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # the rooms inherit the mask from here
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _announce(console: Any, where: Addresses, workspace: Path, asked: bool) -> None:
    console.print(f"[bold]Open Finetuner is up.[/bold] Workspace {workspace}. Ctrl-C stops it.", soft_wrap=True)
    console.print(f"  page     [bold]{where.http}/[/bold]", soft_wrap=True)
    console.print(f"  gRPC     {where.grpc}\n  HTTP     {where.http}", soft_wrap=True)
    for number, (room, url) in enumerate(where.metrics.items()):
        console.print(f"  {'' if number else 'metrics':8} {url}  {room}", soft_wrap=True)
    if not asked:
        console.print(
            f"There is no token: everybody on this machine may enter, and nobody else. {MAKE_ONE.format(workspace)}.",
            soft_wrap=True,
        )


def _interrupt_on(signals: tuple[signal.Signals, ...]) -> None:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)


def _asked_to_stop(signals: tuple[signal.Signals, ...]) -> Connection:
    """Return what can be read once a signal has come; until then nothing is interrupted."""
    asked, ask = multiprocessing.Pipe(duplex=False)
    for number in signals:
        signal.signal(number, lambda *_: ask.send(None))
    return asked


def _ignore(signals: tuple[signal.Signals, ...]) -> None:
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


def _follow(parent: int) -> None:
    """End this process with its parent, also where the parent is killed and can tell nobody."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _rooms(name: str = "") -> list[psutil.Process]:
    """Return the rooms that still run, or the replicas of one."""
    import psutil

    found = []
    for room in multiprocessing.active_children():  # not every child: Python's own ones end by themselves
        if room.name.startswith(name):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(room.pid))
    return found
