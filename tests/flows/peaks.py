"""Memory that a Flow takes for something."""

from __future__ import annotations

from pathlib import Path

import psutil

from finetuner.flow.running_flow import RunningFlow


class Peaks:
    """How far the resident memory of each process of a Flow rises."""

    def __init__(self, flow: RunningFlow) -> None:
        flow_process = psutil.Process(flow.pid)
        self._processes = [flow_process, *flow_process.children(recursive=True)]
        self._before = {process.pid: process.memory_info().rss for process in self._processes}
        for process in self._processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the kernel's own peak starts again

    def growth(self) -> int:
        """Return bytes: of the process that has grown most, at its highest."""
        return max(self._peak(pid) - before for pid, before in self._before.items())

    @staticmethod
    def _peak(pid: int) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
