"""Cancel, delete and the queues of devices, with real workers where a run is under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.exceptions import InvalidInput, RunNotFound
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.executors.trainer.run_messages import WorkerProcess
from finetuner.executors.trainer.run_store import RunStore

Ask = Callable[..., Any]
CONFIG = {"model": "clip-mini", "train_data": "pairs", "device": "cpu", "batch_size": 8, "epochs": 1}


def test_a_waiting_run_is_canceled_and_then_deleted(trainer: Trainer, ask: Ask) -> None:
    ask(trainer.fit, config={**CONFIG, "run_name": "waiting"})
    with pytest.raises(InvalidInput, match="run must have ended. Got 'waiting', which is CREATED. Cancel it first"):
        ask(trainer.delete_run, name="waiting")
    run = ask(trainer.cancel_run, name="waiting")
    assert (run["status"], run["details"], run["started_at"]) == ("CANCELED", "Canceled before it started", None)
    assert ask(trainer.cancel_run, name="waiting") == run, "once more changes nothing"
    folder = trainer.shared_workspace.run(run["artifact_id"])
    folder.mkdir(parents=True)
    assert ask(trainer.delete_run, name="waiting")["name"] == "waiting"
    assert not folder.exists()
    with pytest.raises(RunNotFound):
        ask(trainer.get_run, name="waiting")
    ask(trainer.fit, config={**CONFIG, "run_name": "waiting"})


@pytest.mark.process
def test_a_running_run_is_canceled_and_the_next_starts(
    tmp_path: Path,
    trainer_at: Callable[..., Any],
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Ask,
    wait_until: Callable[..., None],
    workers_in: Callable[[Path], list[Any]],
) -> None:
    with trainer_at(tmp_path) as trainer:
        push(trainer, "pairs", pairs)
        for name in ("endless", "next"):
            ask(trainer.fit, config={**CONFIG, "run_name": name, "epochs": 10_000})
        wait_until(lambda: ask(trainer.metrics_of_run, name="endless")["steps"], "the first step")
        assert ask(trainer.get_run, name="next")["status"] == "CREATED"
        with pytest.raises(InvalidInput, match="Got 'endless', which is STARTED. Cancel it first"):
            ask(trainer.delete_run, name="endless")

        run = ask(trainer.cancel_run, name="endless")

        assert (run["status"], run["details"]) == ("CANCELED", "Canceled")
        assert workers_in(tmp_path) == []
        assert "Epoch 1/10000" in ask(trainer.logs_of_run, name="endless")["text"]
        assert not list(trainer.shared_workspace.artifacts.glob("*"))
        assert not (trainer.shared_workspace.run(run["artifact_id"]) / "pixels.npy").exists()
        wait_until(lambda: ask(trainer.get_run, name="next")["status"] == "STARTED", "the start of the next run")
        assert ask(trainer.get_run, name="endless")["status"] == "CANCELED"
        ask(trainer.cancel_run, name="next")


def test_a_running_run_cannot_be_resumed_and_stays_known(trainer: Trainer, ask: Ask) -> None:
    run = ask(trainer.fit, config={**CONFIG, "run_name": "running"})
    folder = RunFolder(trainer.shared_workspace.run(run["artifact_id"]))
    folder.path.mkdir(parents=True)
    WorkerProcess(1, ("cpu",)).write(folder)
    store = RunStore(trainer.shared_workspace.runs_database)
    store.move(run["artifact_id"], "STARTED", "Training", only_from=("CREATED",))
    with pytest.raises(InvalidInput, match="run must have failed or been canceled. Got 'running', which is STARTED"):
        ask(trainer.resume_run, name="running")
    assert WorkerProcess.read(folder) == WorkerProcess(1, ("cpu",))


@pytest.mark.process
def test_each_device_trains_one_run_and_the_next_trainer_knows_which(
    tmp_path: Path,
    trainer_at: Callable[..., Any],
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Ask,
    wait_until: Callable[..., None],
    workers_in: Callable[[Path], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two GPUs that do not exist: their workers find none and train on the CPU."""

    def statuses(trainer: Trainer) -> dict[str, str]:
        return {run["name"]: run["status"] for run in ask(trainer.list_runs)}

    def process_of(trainer: Trainer, name: str) -> WorkerProcess | None:
        run = ask(trainer.get_run, name=name)
        return WorkerProcess.read(RunFolder(trainer.shared_workspace.run(run["artifact_id"])))

    killed = Trainer(workspace_url=str(tmp_path), threads=1, gpus=2)
    try:
        push(killed, "pairs", pairs)
        for name, device in (("first", "cuda"), ("second", "gpu"), ("third", "cuda"), ("on-cpu", "cpu")):
            ask(killed.fit, config={**CONFIG, "run_name": name, "device": device, "epochs": 10_000})
        expected = {"first": "STARTED", "second": "STARTED", "third": "CREATED", "on-cpu": "STARTED"}
        wait_until(lambda: statuses(killed) == expected and len(workers_in(tmp_path)) == 3, "three workers")
        wait_until(lambda: all(process_of(killed, name) for name in ("first", "second", "on-cpu")), "their notes")
        processes = {name: process_of(killed, name) for name in ("first", "second", "on-cpu")}
        assert [note and note.devices for note in processes.values()] == [("0",), ("1",), ("cpu",)]
        seen = {worker.pid: worker.environ().get("CUDA_VISIBLE_DEVICES", "") for worker in workers_in(tmp_path)}
        assert seen == {note.pid: note.devices[0].replace("cpu", "") for note in processes.values() if note}
    finally:  # as if it were killed: its workers live on
        killed._supervisor._closing.set()
        killed._supervisor._thread.join()
        killed._supervisor._lock_file.close()
    with trainer_at(tmp_path, gpus=2) as trainer:
        assert statuses(trainer) == expected
        ask(trainer.cancel_run, name="second")
        wait_until(lambda: statuses(trainer)["third"] == "STARTED", "the next run of the queue")
        wait_until(lambda: process_of(trainer, "third"), "its worker")
        third = process_of(trainer, "third")
        assert third is not None
        assert third.devices == ("1",), "the GPU that the canceled run left"
        assert {name: process_of(trainer, name) for name in ("first", "on-cpu")} == {
            name: processes[name] for name in ("first", "on-cpu")
        }
    assert workers_in(tmp_path) == []
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 3600)
    with trainer_at(tmp_path, gpus=2) as trainer:
        waiting = {run["name"]: run["details"] for run in ask(trainer.list_runs)}
        again = "Run submitted and awaits execution again"
        assert waiting == {"first": again, "second": "Canceled", "third": again, "on-cpu": again}
