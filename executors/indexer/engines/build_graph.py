"""Builds a shard's graph in a process of its own, at the lowest priority.

python -m executors.indexer.engines.build_graph SHARD
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import qdrant_edge as qdrant

from finetuner.exceptions import FinetunerServerError

NICE = 19
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class GraphBuild:
    """The process, seen from the one that started it.

    Args:
        shard: folder of a shard that nobody has open.
    """

    def __init__(self, shard: Path) -> None:
        command = [sys.executable, "-m", __name__, str(shard), str(os.getpid())]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait(self) -> None:
        """Return when the graph is there.

        Raises:
            FinetunerServerError: the process did not end well.
        """
        _, printed = self._process.communicate()
        if self._process.returncode != 0:
            last = (printed.strip().splitlines() or ["nothing printed"])[-1]
            raise FinetunerServerError(
                f"building the graph must end with 0. Got {self._process.returncode}: {last}. "
                "Searches go on without it; see memory and disk."
            )

    def stop(self) -> None:
        """End the process; `wait` raises then."""
        self._process.kill()


def build(shard: Path, parent: int) -> None:
    """Build what is missing of the shard's graph; end with the process `parent`."""
    os.nice(NICE)
    if sys.platform == "linux":
        # The engine keeps Python's lock for minutes, so no thread here could watch the parent.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    opened = qdrant.EdgeShard.load(str(shard))
    opened.optimize()
    opened.flush()
    opened.close()


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]))
