"""A run resumes in a real Flow: its trainer is killed during training, and the Flow is started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.exceptions import FinetunerError
from finetuner.flow.running_flow import RunningFlow

pytestmark = pytest.mark.flow


def holder_of(lock: Path) -> int | None:
    """Return the process that holds a lock on a file, from the kernel's list."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].split(":")[2]) == inode:
            return int(fields[4])
    return None


@pytest.mark.slow
def test_a_run_survives_a_kill_of_its_flows_trainer(
    tmp_path: Path, pairs: list[Document], wait_until: Callable[..., None],
    workers_in: Callable[[Path], list[psutil.Process]],
) -> None:  # fmt: skip
    fields: dict[str, Any] = {"loss": "CLIPLoss", "device": "cpu", "batch_size": 8}
    lock = tmp_path / "trainer.lock"
    with RunningFlow(tmp_path) as flow:
        finetuner.login(host=flow.host, force=True)
        run = finetuner.fit("clip-mini", DocumentArray(pairs), run_name="run", epochs=10_000, **fields)
        wait_until(run.loss_curve, "the first step")
        killed, workers = holder_of(lock), workers_in(tmp_path)
        assert killed is not None
        assert len(workers) == 1
        os.kill(killed, signal.SIGKILL)

        def answers() -> bool:
            with suppress(FinetunerError):
                return run.status()["status"] == "STARTED"
            return False

        wait_until(lambda: holder_of(lock) not in (None, killed) and answers(), "the next trainer")
        assert workers_in(tmp_path) == workers, "the worker has lived on"
    assert workers_in(tmp_path) == []
    with RunningFlow(tmp_path) as flow:
        finetuner.login(host=flow.host, force=True)
        run = finetuner.get_run("run")
        wait_until(lambda: "Resuming from step" in run.logs(), "the run to go on")
        run.cancel()
        again = finetuner.fit("clip-mini", run.config["train_data"], run_name="again", epochs=1, **fields)
        assert again.wait()["status"] == "FINISHED"
    assert workers_in(tmp_path) == []
