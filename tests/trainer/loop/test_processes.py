"""Two processes train one model, as one process would."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document

from finetuner.artifacts.manifest import verify_artifact
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.loop.processes import join_processes
from finetuner.executors.trainer.loop.task import share

pytestmark = pytest.mark.process

FIT: dict[str, Any] = {
    "model": "clip-mini", "train_data": "pairs", "eval_data": "pairs", "device": "cpu", "batch_size": 8, "epochs": 2,
    "val_split": 0.25, "callbacks": [{"name": "BestModelCheckpoint", "options": {"monitor": "val_loss"}}],
}  # fmt: skip
TAUGHT = {"distillation": 2.0, "l2_sp": 5.0}


def curve(trainer: Trainer, ask: Callable[..., Any], name: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = ask(trainer.metrics_of_run, name=name)["steps"]
    return steps


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        pytest.param({}, {}, id="whole", marks=pytest.mark.slow),
        pytest.param({}, {"micro_batch_size": 2}, id="in parts", marks=pytest.mark.slow),
        pytest.param({}, {"micro_batch_size": 2, **TAUGHT}, id="distilled in parts", marks=pytest.mark.slow),
        pytest.param(
            {"replay_data": "others"},
            {"micro_batch_size": 2, **TAUGHT},
            id="replayed and distilled",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {},
            {"hard_batches": 4, "hard_batches_from": 1, "hard_negatives": {"per_image": 2}},
            id="hard batches and negatives",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_give_the_losses_of_one(
    fields: dict[str, Any],
    options: dict[str, Any],
    tmp_path: Path,
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Callable[..., Any],
    wait_for_end: Callable[..., dict[str, Any]],
) -> None:
    trainer = Trainer(workspace_url=str(tmp_path), threads=1)
    try:
        push(trainer, "pairs", pairs)
        push(trainer, "others", pairs[:10])
        plain = {"crop_scale": [1, 1], **options}  # each process draws its own crops
        for name, count in (("one", 1), ("two", 2)):
            more = {"run_name": name, "training_options": plain | {"num_processes": count}}
            ask(trainer.fit, config=FIT | fields | more)
        one, two = wait_for_end(trainer, "one"), wait_for_end(trainer, "two")
        assert (two["status"], two["details"]) == ("FINISHED", "Training finished")
        expected, found = curve(trainer, ask, "one"), curve(trainer, ask, "two")
        assert [step["step"] for step in found] == [step["step"] for step in expected]
        for name in ("loss", "val_loss", "learning_rate"):
            values = [[math.nan if step[name] is None else step[name] for step in run] for run in (found, expected)]
            np.testing.assert_allclose(*values, rtol=1e-3)
        manifests = [verify_artifact(trainer.shared_workspace.artifacts / run["artifact_id"]) for run in (one, two)]
        before = [manifest.metrics["before"] for manifest in manifests]
        assert before[1] == pytest.approx(before[0])
        assert ask(trainer.logs_of_run, name="two")["text"].count("Starting run") == 1
        assert ask(trainer.logs_of_run, name="two")["text"].count("after fine-tuning:") == 1
    finally:
        trainer.close()


@pytest.mark.slow
def test_two_processes_can_be_canceled_and_resumed(
    tmp_path: Path,
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Callable[..., Any],
    wait_until: Callable[..., None],
    workers_in: Callable[[Path], list[Any]],
) -> None:
    trainer = Trainer(workspace_url=str(tmp_path), threads=1)
    try:
        push(trainer, "pairs", pairs)
        options = {"num_processes": 2}
        run = ask(trainer.fit, config=FIT | {"run_name": "long", "epochs": 10_000, "training_options": options})
        wait_until((trainer.shared_workspace.run(run["artifact_id"]) / "checkpoint.pt").exists, "a checkpoint")
        assert len(workers_in(tmp_path)) == 3, "the launcher and its two"
        assert ask(trainer.cancel_run, name="long")["status"] == "CANCELED"
        wait_until(lambda: not workers_in(tmp_path), "the end of all processes")
        ask(trainer.resume_run, name="long")
        wait_until(lambda: "Resuming from step" in ask(trainer.logs_of_run, name="long")["text"], "going on")
        assert ask(trainer.cancel_run, name="long")["status"] == "CANCELED"
        wait_until(lambda: not workers_in(tmp_path), "the end of all processes")
    finally:
        trainer.close()


@pytest.mark.slow
def test_two_resumed_processes_know_the_scores_from_before(
    tmp_path: Path,
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Callable[..., Any],
    wait_until: Callable[..., None],
    wait_for_end: Callable[..., dict[str, Any]],
) -> None:
    trainer = Trainer(workspace_url=str(tmp_path), threads=1)
    try:
        push(trainer, "pairs", pairs)
        changes = {"run_name": "guarded", "guard_data": "pairs", "epochs": 30, "training_options": {"num_processes": 2}}
        run = ask(trainer.fit, config=FIT | changes)
        wait_until((trainer.shared_workspace.run(run["artifact_id"]) / "checkpoint.pt").exists, "a checkpoint")
        assert ask(trainer.cancel_run, name="guarded")["status"] == "CANCELED"
        ask(trainer.resume_run, name="guarded")
        ended = wait_for_end(trainer, "guarded")
        assert (ended["status"], ended["details"]) == ("FINISHED", "Training finished")
        text = ask(trainer.logs_of_run, name="guarded")["text"]
        assert "Resuming from step" in text
        assert "Guard: mean R@5 was" in text
        assert "KeyError" not in text, "of the process that writes nothing"
    finally:
        trainer.close()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InvalidInput, match="num_processes must be at most the number of GPUs, 1. Got 2. Lower it"):
        join_processes(2, "cuda")


def test_every_row_has_a_process_and_all_get_equally_many() -> None:
    for count, processes in ((8, 2), (7, 2), (5, 3), (1, 2)):
        parts = [share(np.arange(count), process, processes) for process in range(processes)]
        assert {len(part) for part in parts} == {-(-count // processes)}
        assert set(np.concatenate(parts).tolist()) == set(range(count))
