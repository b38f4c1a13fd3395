"""A process that has done slow imports and forks: a run starts in a tenth of a second instead of ten.

`serve` answers at a Unix socket that only its user can open. Each child leads a session of its own and continues as
`python ARGUMENTS` would; it shows this command line, and outlives the process that it was forked from.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NoReturn

from ..contract.environment import PREPARED
from .processes import command_of

ANSWER_SECONDS = 30.0  # imports come first
QUIET_SECONDS = 20.0
WATCH_SECONDS = 1.0
MAX_BYTES = 1 << 20  # of a request; most of it is the environment
GO = b"go"


@dataclass(frozen=True)
class Request:
    """A process to start."""

    command: list[str]
    """['-m', MODULE, ARGUMENT, ...]"""
    environment: dict[str, str]
    folder: str
    """The process works there."""
    shown: bool
    """Whether the command line must be that of the new process."""


def serve(path: str, imports: Mapping[str, Sequence[str]] | None = None) -> None:
    """Fork for each request until the parent of this process has ended, then remove the socket and its folder.

    Args:
        path: of the socket, in an existing folder that this user alone can open.
        imports: for each module that is asked for, the modules to import before its first fork. If nobody asks within
            QUIET_SECONDS, they are imported then: a Flow that starts has other work.
    """
    imports, start = imports or {}, time.monotonic()
    living = _life_of_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps the children
    server = os.getpid()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(f"{path}.new")
        listener.listen()
        os.rename(f"{path}.new", path)  # who finds it is answered
        listener.settimeout(WATCH_SECONDS)
        while living():
            with suppress(OSError, ValueError, KeyError, TypeError):  # a caller that left, or sent something else
                connection, _ = listener.accept()
                with connection:
                    _fork(connection, listener, imports)
            if time.monotonic() - start > QUIET_SECONDS:
                _import(name for names in imports.values() for name in names)
    finally:
        if os.getpid() == server:  # and not a child that a signal has ended before it became another program
            listener.close()
            shutil.rmtree(Path(path).parent, ignore_errors=True)


def _life_of_parent() -> Callable[[], bool]:
    """Return what tells whether the process lives that has started this one, itself or through a fork server.

    A fork server is no measure: it lives as long as one of its children.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.is_alive
    started_by = os.getppid()
    return lambda: os.getppid() == started_by


def start(module: str, arguments: Sequence[str], output: IO[bytes], environment: Mapping[str, str]) -> int | None:
    """Start `python -m MODULE ARGUMENTS` in a session of its own, from the prepared process of this Flow.

    Args:
        module: with a dot; run as `__main__`.
        arguments: its command line.
        output: file that gets stdout and stderr.
        environment: its environment variables.

    Returns:
        The process's id; None if there is no prepared process, or none that answers in time. Nothing was started then.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        return _ask(connection, module, arguments, output, environment, shown=True)


def run(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` to its end, from the prepared process of this Flow, or else as a new one.

    Args:
        module: with a dot; run as `__main__`.
        arguments: its command line.
        environment: its environment variables.
        seconds: after which it is killed.

    Returns:
        Its exit code, below 0 if a signal ended it, and its output, both streams as stdout.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
    """
    with TemporaryFile() as output, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        pid = _ask(connection, module, arguments, output, environment, shown=False)
        if pid is None:
            return subprocess.run(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=seconds,
                env=environment,
            )
        try:
            connection.settimeout(seconds)
            code = int(connection.recv(64) or -signal.SIGKILL)
        except TimeoutError:
            raise subprocess.TimeoutExpired([module, *arguments], seconds) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        output.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, output.read().decode(errors="replace"))


def _ask(
    connection: socket.socket,
    module: str,
    arguments: Sequence[str],
    output: IO[bytes],
    environment: Mapping[str, str],
    *,
    shown: bool,
) -> int | None:
    path = os.environ.get(PREPARED)
    if path is None:
        return None
    command = ["-m", module, *arguments]
    request = {"command": command, "environment": {**environment}, "folder": str(Path.cwd()), "shown": shown}
    try:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(request).encode()], [output.fileno()])
        answer = connection.recv(64)
        if not answer:
            return None
        connection.send(GO)  # whoever gave up before does not send it, and the child ends
        return int(answer)
    except OSError:
        return None


def _import(names: Iterable[str]) -> None:
    for name in names:
        with suppress(ImportError):  # the child reports it
            import_module(name)


def _fork(connection: socket.socket, listener: socket.socket, imports: Mapping[str, Sequence[str]]) -> None:
    connection.settimeout(ANSWER_SECONDS)
    message, files, _, _ = socket.recv_fds(connection, MAX_BYTES, 1)
    try:
        request = Request(**json.loads(message))
        _import(imports.get(request.command[1], ()))
        if os.fork() == 0:
            listener.close()
            _continue_as(request, files[0], connection)
    finally:
        for file in files:
            os.close(file)


def _continue_as(request: Request, output: int, connection: socket.socket) -> NoReturn:
    """Become what `python COMMAND` would be, tell the caller, and run it when the caller has heard that."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(request.folder)
        command = [sys.executable, *request.command]
        complete = not request.shown or _show_command(" ".join(command))
        os.environ.clear()
        os.environ.update(request.environment)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        connection.send(str(os.getpid()).encode())
        if connection.recv(len(GO)) == GO:
            if not complete:
                os.execv(sys.executable, command)
            multiprocessing.set_start_method(None, force=True)
            sys.argv = request.command[1:]  # run_module replaces the first
            code = _exit_code(request.command[1])
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code, connection)


def _show_command(command: str) -> bool:
    """Show a command line for this process, and return whether all of it is shown.

    It must fit into that of the process from which this one was forked: the environment lies behind it, and marks the
    processes of a Flow.
    """
    os.environ["SPT_NOENV"] = "1"  # for setproctitle: keep the environment
    from psutil import Process
    from setproctitle import setproctitle

    setproctitle(command)
    return command_of(Process()) == command


def _exit_code(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _end(code: int, connection: socket.socket) -> NoReturn:
    """End this process as the interpreter does, without going back to the code that forked it."""
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    with suppress(OSError):  # from `start`, nobody waits for it
        connection.send(str(code).encode())
    os._exit(code)
