"""Ends processes so that none is left."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

KILL_SECONDS = 3.0


def end(processes: list[psutil.Process], seconds: float) -> None:
    """Ask processes to end, wait, then kill what is left of them and of all that they started."""
    import psutil

    started = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            started += [process, *process.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=seconds)
    for process in started:
        with suppress(psutil.NoSuchProcess):  # psutil knows a process from a later one with its number
            process.kill()
    psutil.wait_procs(started, timeout=KILL_SECONDS)
