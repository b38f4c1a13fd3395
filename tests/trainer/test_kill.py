"""A run ends whatever is killed: FINISHED with a result, FAILED with a reason without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from docarray import Document

from finetuner.artifacts.manifest import Manifest, verify_artifact
from finetuner.artifacts.publish import publish_artifact
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.devices import CPU, Assignment
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.executors.trainer.run_messages import WorkerProcess
from finetuner.executors.trainer.run_store import RunStore
from finetuner.models.clip import TOWERS, Clip

pytestmark = pytest.mark.process

Ask = Callable[..., Any]
CONFIG = {"model": "clip-mini", "train_data": "pairs", "run_name": "run", "device": "cpu", "batch_size": 8}
KILLED = "The training process ended without a result: killed, or out of memory. See the log. "
KILLED += "Run.resume() continues from the last checkpoint."


@pytest.fixture
def asked(
    tmp_path: Path,
    trainer_at: Callable[..., Any],
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Ask,
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Record a run in tmp_path, by a trainer that is closed again and starts nothing."""

    def asked(**fields: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(supervisor, "POLL_SECONDS", 3600)
            with trainer_at(tmp_path) as trainer:
                push(trainer, "pairs", pairs)
                run: dict[str, Any] = ask(trainer.fit, config={**CONFIG, **fields})
                return run

    return asked


def started(trainer: Trainer, run: dict[str, Any]) -> None:
    """Put a run into the state STARTED, without a worker."""
    store = RunStore(trainer.shared_workspace.runs_database)
    store.move(run["artifact_id"], "STARTED", "Training", only_from=("CREATED",))


def publish_result(trainer: Trainer, run: dict[str, Any], model: Clip) -> None:
    manifest = Manifest(run["artifact_id"], "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026-01-01", "0")
    publish_artifact(trainer.shared_workspace, model, manifest, {})


def test_a_killed_trainer_does_not_kill_the_result(
    tmp_path: Path,
    asked: Callable[..., dict[str, Any]],
    trainer_at: Callable[..., Any],
    trainer_process: list[str],
    ask: Ask,
    wait_until: Callable[..., None],
    wait_for_end: Callable[..., dict[str, Any]],
    workers_in: Callable[[Path], list[psutil.Process]],
) -> None:
    run = asked(epochs=40)
    folder = tmp_path / "runs" / run["artifact_id"]
    process = subprocess.Popen([*trainer_process, str(tmp_path)])
    try:
        wait_until((folder / "curve.jsonl").exists, "the first step")
    finally:
        process.kill()
        process.wait()
    assert len(workers_in(tmp_path)) == 1
    with trainer_at(tmp_path) as trainer:
        ended = wait_for_end(trainer, "run")
        assert (ended["status"], ended["details"]) == ("FINISHED", "Training finished")
        assert verify_artifact(trainer.shared_workspace.artifacts / run["artifact_id"]).run_name == "run"
        assert ask(trainer.logs_of_run, name="run")["text"].count("Starting run") == 1
    assert workers_in(tmp_path) == []


def test_a_killed_worker_is_a_failed_run_with_a_reason(
    tmp_path: Path,
    asked: Callable[..., dict[str, Any]],
    trainer_at: Callable[..., Any],
    ask: Ask,
    wait_until: Callable[..., None],
    wait_for_end: Callable[..., dict[str, Any]],
    workers_in: Callable[[Path], list[psutil.Process]],
) -> None:
    asked()
    with trainer_at(tmp_path) as trainer:
        wait_until(lambda: workers_in(tmp_path), "the worker")
        os.kill(workers_in(tmp_path)[0].pid, signal.SIGKILL)
        ended = wait_for_end(trainer, "run")
        assert (ended["status"], ended["details"]) == ("FAILED", KILLED)
        last = ask(trainer.logs_of_run, name="run")["text"].splitlines()[-1]
        assert last.endswith(f"ERROR    {KILLED}")
        assert ended["ended_at"] >= ended["started_at"]


def test_an_orderly_close_puts_the_run_back_and_the_next_trainer_finishes_it(
    tmp_path: Path,
    asked: Callable[..., dict[str, Any]],
    trainer_at: Callable[..., Any],
    ask: Ask,
    wait_until: Callable[..., None],
    wait_for_end: Callable[..., dict[str, Any]],
    workers_in: Callable[[Path], list[psutil.Process]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = asked(epochs=2)
    with trainer_at(tmp_path):
        wait_until(lambda: workers_in(tmp_path), "the worker")
    assert workers_in(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "POLL_SECONDS", 3600)
        with trainer_at(tmp_path) as trainer:
            waiting = ask(trainer.get_run, name="run")
            assert (waiting["status"], waiting["details"]) == ("CREATED", "Run submitted and awaits execution again")
    with trainer_at(tmp_path) as trainer:
        assert wait_for_end(trainer, "run")["status"] == "FINISHED"
        assert verify_artifact(trainer.shared_workspace.artifacts / run["artifact_id"])
        assert len(ask(trainer.metrics_of_run, name="run")["steps"]) == 6, "nothing of the first attempt is left"


def test_a_worker_killed_after_publishing_has_finished(
    tmp_path: Path,
    asked: Callable[..., dict[str, Any]],
    trainer_at: Callable[..., Any],
    wait_for_end: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    clip_mini: Clip,
) -> None:
    run = asked()
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.5)
    with trainer_at(tmp_path) as trainer:
        started(trainer, run)
        publish_result(trainer, run, clip_mini)
        assert wait_for_end(trainer, "run")["status"] == "FINISHED"


def test_a_run_that_was_published_before_the_close_is_not_trained_again(
    tmp_path: Path, asked: Callable[..., dict[str, Any]], trainer_at: Callable[..., Any],
    still_queue: None, ask: Ask, clip_mini: Clip,
) -> None:  # fmt: skip
    run = asked()
    with trainer_at(tmp_path) as trainer:
        started(trainer, run)
        publish_result(trainer, run, clip_mini)
    with trainer_at(tmp_path) as trainer:
        assert ask(trainer.get_run, name="run")["status"] == "FINISHED"


def test_a_process_with_a_reused_pid_is_not_the_worker(
    tmp_path: Path, asked: Callable[..., dict[str, Any]], trainer_at: Callable[..., Any], ask: Ask,
    wait_for_end: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Not even a worker of another run: the command line identifies the worker."""
    run = asked()
    other = [
        sys.executable,
        "-c",
        "import time; time.sleep(60)",
        "finetuner.executors.trainer.worker",
        str(tmp_path / "runs" / "x"),
    ]
    with subprocess.Popen(other, start_new_session=True) as bystander:
        try:
            monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.5)
            with trainer_at(tmp_path) as trainer:
                folder = RunFolder(trainer.shared_workspace.run(run["artifact_id"]))
                folder.path.mkdir(parents=True)
                WorkerProcess(bystander.pid, (CPU,)).write(folder)
                started(trainer, run)
                assert wait_for_end(trainer, "run")["status"] == "FAILED"
                ask(trainer.cancel_run, name="run")
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_a_worker_writes_its_own_process_note(
    tmp_path: Path, asked: Callable[..., dict[str, Any]], trainer_at: Callable[..., Any], still_queue: None,
    wait_until: Callable[..., None], workers_in: Callable[[Path], list[psutil.Process]], ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The trainer was killed between starting the worker and noting its pid."""
    run = asked(epochs=10_000)
    monkeypatch.setattr(WorkerProcess, "write", lambda *_: None)  # of this process, not of the worker
    with trainer_at(tmp_path) as trainer:
        record = RunStore(trainer.shared_workspace.runs_database).get("run", "default")
        trainer._supervisor._start(Assignment(record, (CPU,)))
        folder = RunFolder(trainer.shared_workspace.run(run["artifact_id"]))
        wait_until(lambda: folder.read("process"), "the worker's process note")
        assert WorkerProcess.read(folder) == WorkerProcess(workers_in(tmp_path)[0].pid, (CPU,))
        assert ask(trainer.cancel_run, name="run")["artifact_id"] == run["artifact_id"]
        assert workers_in(tmp_path) == []


def test_a_supervisor_that_fails_tries_again(
    tmp_path: Path, asked: Callable[..., dict[str, Any]], trainer_at: Callable[..., Any],
    wait_until: Callable[..., None], workers_in: Callable[[Path], list[psutil.Process]],
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    asked(epochs=10_000)
    failures, start = [OSError(28, "No space left on device")], supervisor.Supervisor._start

    def failing_once(self: supervisor.Supervisor, assignment: Assignment) -> None:
        if failures:
            raise failures.pop()
        start(self, assignment)

    monkeypatch.setattr(supervisor.Supervisor, "_start", failing_once)
    monkeypatch.setattr(supervisor, "RETRY_SECONDS", 0.1)
    with trainer_at(tmp_path) as trainer:
        wait_until(lambda: workers_in(tmp_path), "the second attempt")
        ask(trainer.cancel_run, name="run")
    assert "The supervisor tries run 'run' again" in caplog.text
    assert "No space left on device" in caplog.text
