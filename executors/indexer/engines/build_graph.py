"""Builds a shard's graph in a separate process at the lowest priority.

python -m finetuner.executors.indexer.engines.build_graph SHARD
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
    """Starts the process and waits for it.

    Args:
        shard: folder of a shard that no process has open.
    """

    def __init__(self, shard: Path) -> None:
        command = [sys.executable, "-m", __name__, str(shard), str(os.getpid())]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait(self) -> None:
        """Return when the graph is built.

        Raises:
            FinetunerServerError: the process failed.
        """
        _, printed = self._process.communicate()
        if self._process.returncode != 0:
            last = (printed.strip().splitlines() or ["nothing printed"])[-1]
            raise FinetunerServerError(
                f"the graph's build must end with exit code 0. Got {self._process.returncode}: {last}. "
                "Searches work without the graph. Check memory and disk."
            )

    def stop(self) -> None:
        """Stop the process; `wait` then raises."""
        self._process.kill()


def build(shard: Path, parent: int) -> None:
    """Complete the shard's graph. End when the process `parent` ends."""
    os.nice(NICE)
    if sys.platform == "linux":
        # The engine holds Python's lock for minutes, so no thread here could watch the parent.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    opened = qdrant.EdgeShard.load(str(shard))
    opened.optimize()
    opened.flush()
    opened.close()


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]))
