"""Cancel and delete, with real workers where a run is under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from executors.trainer.executor import Trainer
from finetuner.exceptions import InvalidInput, RunNotFound

Ask = Callable[..., Any]
CONFIG = {"model": "clip-mini", "train_data": "pairs", "device": "cpu", "batch_size": 8, "epochs": 1}


def test_a_waiting_run_is_canceled_and_then_forgotten(trainer: Trainer, ask: Ask) -> None:
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
