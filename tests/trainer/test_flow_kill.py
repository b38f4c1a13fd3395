"""The same through a real Flow: its trainer is killed while a run trains, and the Flow is started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.exceptions import FinetunerError, RunFailedError
from finetuner.running_flow import RunningFlow


def holder_of(lock: Path) -> int:
    """Return the process that holds a lock on a file, as the kernel says."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].split(":")[2]) == inode:
            return int(fields[4])
    raise AssertionError(f"nobody holds {lock}")


@pytest.mark.slow
def test_a_run_ends_although_the_trainer_of_its_flow_is_killed(
    tmp_path: Path, pairs: list[Document], wait_until: Callable[..., None],
    workers_in: Callable[[Path], list[psutil.Process]],
) -> None:  # fmt: skip
    fields: dict[str, Any] = {"loss": "CLIPLoss", "device": "cpu", "batch_size": 8}
    with RunningFlow(tmp_path) as flow:
        finetuner.login(host=flow.host, force=True)
        run = finetuner.fit("clip-mini", DocumentArray(pairs), run_name="run", epochs=10_000, **fields)
        wait_until(lambda: workers_in(tmp_path), "the worker")
        wait_until(lambda: run.status()["status"] == "STARTED", "the start of the run")
        os.kill(holder_of(tmp_path / "trainer.lock"), signal.SIGKILL)
        assert len(workers_in(tmp_path)) == 1, "the worker lives on"
        with pytest.raises(FinetunerError):
            run.status()
    assert workers_in(tmp_path) == []
    with RunningFlow(tmp_path) as flow:
        finetuner.login(host=flow.host, force=True)
        run = finetuner.get_run("run")
        with pytest.raises(RunFailedError, match="ended as FAILED: The training process ended without a result"):
            run.wait()
        assert "ERROR" in run.logs().splitlines()[-1]
        again = finetuner.fit("clip-mini", run.config["train_data"], run_name="again", epochs=1, **fields)
        assert again.wait()["status"] == "FINISHED"
    assert workers_in(tmp_path) == []
