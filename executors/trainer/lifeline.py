"""Ends a run's process when its workspace has had no trainer for a while."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "trainer.lock"
ALONE_SECONDS = 120.0  # more than a Flow waits before it starts a killed trainer again
POLL_SECONDS = 0.5

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


def has_trainer(root: Path) -> bool:
    """Return whether a trainer holds the workspace."""
    with open(root / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
