"""A run's process ends when its workspace has had no trainer for a while, and not before."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from finetuner.executors.trainer.lifeline import LOCK, has_trainer
from tests.waiting import wait_until

WORKER = """
import sys, time
from pathlib import Path
import os, logging
from finetuner.executors.trainer import lifeline
logging.basicConfig()
looks = 0
def counted(root, look=lifeline.has_trainer):
    global looks
    looks += 1
    Path(sys.argv[2]).write_text(str(looks))
    return look(root)
lifeline.has_trainer, lifeline.POLL_SECONDS = counted, 0.02
with lifeline.ending_without_trainer(Path(sys.argv[1]), os.getpid(), 0.2):
    time.sleep(600)
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[IO[str]]:
    """The lock that a trainer holds."""
    with open(tmp_path / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@pytest.fixture
def worker(tmp_path: Path, trainer: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with the lifeline, whose file `looks` counts its looks for a trainer."""
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(tmp_path / "looks")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def looks(folder: Path) -> int:
    file = folder / "looks"
    return int(file.read_text() or 0) if file.exists() else 0


@pytest.mark.process
def test_it_ends_once_the_trainer_is_gone_and_not_before(
    worker: subprocess.Popen[str], trainer: IO[str], tmp_path: Path
) -> None:
    assert has_trainer(tmp_path)
    wait_until(lambda: looks(tmp_path) > 30, "looks for longer than it would wait alone")
    assert worker.poll() is None
    trainer.close()
    assert not has_trainer(tmp_path)
    assert worker.wait() == -signal.SIGTERM
    assert worker.stderr is not None
    assert "No trainer for 0.2 s" in worker.stderr.read()


def test_a_block_that_has_ended_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetuner.executors.trainer import lifeline

    (tmp_path / LOCK).touch()
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    with lifeline.ending_without_trainer(tmp_path, os.getpid()):
        pass
    assert killed == []
