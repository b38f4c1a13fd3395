"""Ends a run's process when its workspace has had no trainer for a while, or when its lease has ended."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import psutil

from finetuner.exceptions import DatabaseUnreachable, InvalidInput

from .loop.interrupt import EXIT_CODE
from .run_folder import RunFolder
from .run_messages import Paused

if TYPE_CHECKING:  # most workers need no database
    from .leases import Lease

LOCK = "trainer.lock"
ALONE_SECONDS = 120.0  # more than a Flow waits before it starts a killed trainer again
POLL_SECONDS = 0.5
LOCK_SECONDS = 1.0  # a worker that looks for its trainer holds the lock for a moment
LOOKS = 30  # at a lease, in its length

log = logging.getLogger("finetuner")


@contextmanager
def ending_without_trainer(root: Path, pid: int, seconds: float = ALONE_SECONDS) -> Iterator[None]:
    """During the block, send SIGTERM to a process once no trainer has held the workspace for some time.

    A killed trainer is started again by its Flow and adopts the process. Without a Flow, nobody would read its result,
    and it would hold the device for ever. The next trainer resumes the run from its checkpoint.

    Args:
        root: the workspace.
        pid: of the process that a SIGTERM ends.
        seconds: without a trainer.
    """
    ended = threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while time.monotonic() - last < seconds:
            if ended.wait(POLL_SECONDS):
                return
            if has_trainer(root):
                last = time.monotonic()
        log.warning("No trainer for %g s: the run stops here, and resumes with the next trainer", seconds)
        os.kill(pid, signal.SIGTERM)

    thread = threading.Thread(target=watch, name="lifeline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class HeldRun:
    """The lease of a run, as its worker watches it.

    The trainer renews the lease. Where it is not renewed, because the trainer is gone or the database is away, the
    worker ends with a checkpoint while nobody else can take the run. A process that has lost its run writes nothing.

    Args:
        look: returns the lease; raises DatabaseUnreachable.
        folder: of the run, without this lease.
        pid: of the process that a SIGTERM ends.
        seconds: length of a lease.
    """

    def __init__(self, look: Callable[[], Lease], folder: RunFolder, pid: int, seconds: float) -> None:
        self._look_up, self._folder, self._pid, self._seconds = look, folder, pid, seconds
        self._until = float("-inf")
        self._lost = self._paused = False
        self._ended = threading.Event()

    @property
    def left(self) -> float:
        """Seconds until the lease ends, as far as this process knows; 0 or less once it has lost the run."""
        return 0.0 if self._lost else self._until - time.monotonic()

    def require(self) -> None:
        """End this process, without a word, unless it holds the run. Called before each write."""
        if self.left <= 0:
            raise SystemExit(EXIT_CODE)

    def look(self) -> bool:
        """Ask the database, and return whether it answered. Without an answer, what is known stays."""
        asked = time.monotonic()
        try:
            lease = self._look_up()
        except DatabaseUnreachable:
            return False
        self._lost = self._lost or not lease.current
        self._until = asked + lease.left
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the lease during the block.

        Raises:
            SystemExit: the run is lost already, or the database is away.
        """
        deadline = time.monotonic() + self._seconds / 3
        while not self.look():
            if time.monotonic() > deadline:
                Paused("the database did not answer").write(self._folder)
                raise SystemExit(EXIT_CODE)
            time.sleep(POLL_SECONDS)
        self.require()
        thread = threading.Thread(target=self._watch, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(min(max(self.left, 0.0), self._seconds / LOOKS)):
            self.look()
            if self.left <= 0:
                _kill_family(self._pid)
            if self.left < self._seconds / 3 and not self._paused:
                self._paused = True
                Paused("nobody renewed the lease").write(self._folder)
                log.warning("Nobody has renewed the run's lease: the run stops here, and resumes from its checkpoint")
                os.kill(self._pid, signal.SIGTERM)


def _kill_family(pid: int) -> None:
    """End a process, all that it has started, and this one, at once."""
    for process in psutil.Process(pid).children(recursive=True):
        if process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()
    os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def has_trainer(root: Path) -> bool:
    """Return whether a trainer holds the workspace."""
    with open(root / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def hold_workspace(root: Path, name: str = "") -> IO[str]:
    """Lock the workspace for its only trainer, or with a database server for the one of this name.

    Args:
        root: the workspace.
        name: of the trainer; '' for the only one.

    Returns:
        The file whose closing gives the lock back.

    Raises:
        InvalidInput: another trainer holds the lock.
    """
    lock = f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.{LOCK}" if name else LOCK
    file = open(root / lock, "w")  # noqa: SIM115  # held until close
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            file.close()
            if name:
                raise InvalidInput(
                    f"trainer_name must be of one trainer alone. Got {name!r}, which another one in {root} "
                    f"has. Stop it, or choose another name."
                ) from error
            raise InvalidInput(
                f"workspace must have one trainer. Got {root}, which another trainer uses. "
                f"Stop it, or choose another workspace."
            ) from error
        return file
