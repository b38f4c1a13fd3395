"""Ends processes together with every process that they started."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

KILL_SECONDS = 3.0


def command_of(process: psutil.Process) -> str:
    """Return a process's command line, also of one that `prepared.start` has given another.

    Raises:
        psutil.Error: the process has ended, or belongs to another user.
    """
    return " ".join(process.cmdline()).rstrip()


def end_processes(processes: list[psutil.Process], seconds: float) -> None:
    """Terminate processes, wait, then kill the remaining ones and all their descendants.

    Args:
        processes: the processes to end.
        seconds: time they have to end after SIGTERM.
    """
    import psutil

    family = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += [process, *process.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=seconds)
    for process in family:
        with suppress(psutil.NoSuchProcess):  # psutil never mistakes a later process with the same id for this one
            process.kill()
    psutil.wait_procs(family, timeout=KILL_SECONDS)
