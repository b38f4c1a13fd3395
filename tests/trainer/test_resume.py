"""A killed run resumes, and ends in bitwise the same weights as a run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from docarray import Document
from safetensors.torch import load_file

from finetuner.config.callbacks import BestModelCheckpoint
from finetuner.config.run_config import RunConfig
from finetuner.contract.environment import STAND_INS
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.trainer.data.image_data import ImageData
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.hooks.weights import KeepBestModel
from finetuner.executors.trainer.loop.checkpoint import Checkpoint
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.image_task import ImageTask
from finetuner.executors.trainer.loop.interrupt import EXIT_CODE, Interrupt
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_weights import load_image_backbone, with_head

Weights = Mapping[str, torch.Tensor]
RANDOM = Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image")
BASE: dict[str, Any] = {"train_data": "data", "epochs": 3, "device": "cpu", "scheduler": "cosine", "val_split": 0.25}
FIT: dict[str, Any] = {
    "model": "clip-mini", "train_data": "pairs", "device": "cpu", "batch_size": 4, "epochs": 6, "scheduler": "cosine",
    "callbacks": [{"name": "BestModelCheckpoint", "options": {"monitor": "loss"}}],
}  # fmt: skip


class InterruptAt(Hook):
    """SIGTERM after a step, without the signal."""

    def __init__(self, step: int, interrupt: Interrupt) -> None:
        self._step = step
        self._interrupt = interrupt

    def after_step(self, progress: Progress) -> None:
        if progress.step == self._step:
            self._interrupt.asked = True


def clip_task(data: TrainingData, **options: Any) -> ClipTask:
    config = RunConfig(model="clip-mini", **BASE, training_options=options)
    return ClipTask(load_backbone(find_backbone("clip-mini")), data, config, 2)


def image_task(seed: int, **loss: Any) -> ImageTask:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 255, (16, 3, 32, 32), dtype=np.uint8)
    model = load_image_backbone(RANDOM)
    torch.manual_seed(0)
    with_head(model, 8, freeze=False)
    config = RunConfig(model=RANDOM.name, **BASE | loss)
    return ImageTask(model, ImageData(pixels, np.repeat(np.arange(4), 4), "abcd"), config, 4)


def trained(task: ClipTask | ImageTask, **options: Any) -> Training:
    hooks = options.pop("hooks", [])
    best = KeepBestModel(BestModelCheckpoint(monitor="val_loss"))
    return Training(
        task,
        options.pop("progress", Progress(task.model)),
        task._config,
        learning_rate=1e-3,
        report=options.pop("report", lambda step: None),
        hooks=[best, *hooks],
        **options,
    )


def end_of(task: ClipTask | ImageTask) -> Weights:
    return {name: value.clone() for name, value in task.network.state_dict().items()}


# loss of images -> further fields of its configuration
LOSSES: Mapping[str, Mapping[str, Any]] = {
    "ArcFaceLoss": {},
    "ContrastiveLoss": {"loss_options": {"memory_size": 10}, "batch_size": 4, "val_split": 0.5, "epochs": 5},
}


OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "pairs": {},
    "two captions": {"captions_per_image": 2},
    "hard batches": {"hard_batches": 2},
    "hard negatives": {"hard_negatives": {"per_image": 2, "relative_margin": 1, "every": 2}},
}


IN_SHORT = ("pairs", "hard negatives", *LOSSES)
"""The tasks of `make test`: one whose checkpoint holds what it mined, and those with weights of a loss."""


@pytest.fixture(
    params=[
        each if each in IN_SHORT else pytest.param(each, marks=pytest.mark.slow)
        for each in (*OPTIONS, "scored pairs", *LOSSES)
    ]
)
def make_task(
    request: pytest.FixtureRequest, blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], ClipTask | ImageTask]:
    monkeypatch.setenv(STAND_INS, f"{RANDOM.name}={RANDOM.name}")
    if request.param in OPTIONS:
        return lambda: clip_task(blobs_of_colour, **OPTIONS[request.param])
    if request.param == "scored pairs":
        return lambda: clip_task(replace(blobs_of_colour, scores=[[row, 7 - row] for row in range(8)]))
    return lambda: image_task(0, loss=request.param, **LOSSES[request.param])


@pytest.mark.seconds
def test_an_interrupted_run_ends_in_the_same_weights(
    make_task: Callable[[], ClipTask | ImageTask], tmp_path: Path
) -> None:
    whole, reports = make_task(), []
    trained(whole, report=reports.append).run()
    for step in (1, 5, 9):
        _resumes(make_task, whole, reports, step, Checkpoint(tmp_path / f"{step}.pt", 600))


def _resumes(
    make_task: Callable[[], ClipTask | ImageTask],
    whole: ClipTask | ImageTask,
    reports: list[dict[str, Any]],
    step: int,
    checkpoint: Checkpoint,
) -> None:
    """Train up to a step and from there on, and compare the weights and the curve with those of the whole run."""
    interrupt, first, again = Interrupt(), make_task(), []
    with pytest.raises(SystemExit) as stop:
        trained(
            first,
            checkpoint=checkpoint,
            interrupt=interrupt,
            hooks=[InterruptAt(step, interrupt)],
            report=again.append,
        ).run()
    assert stop.value.code == EXIT_CODE
    torch.manual_seed(99)  # other random numbers must not matter
    np.random.seed(99)
    state, second = checkpoint.read(), make_task()
    assert state is not None
    assert state["step"] == step
    progress = Progress(second.model, step=step)
    trained(second, progress=progress, state=state, hooks=[Hook()], report=again.append).run()
    assert progress.step == reports[-1]["step"]
    assert all(torch.equal(value, end_of(second)[name]) for name, value in end_of(whole).items())
    assert [(entry["step"], entry["loss"], entry["val_loss"]) for entry in again] == [
        (entry["step"], entry["loss"], entry["val_loss"]) for entry in reports
    ]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "c.pt", 0)
    checkpoint.write({"step": 1, "weights": torch.ones(3)})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    checkpoint.write({"step": 2, "weights": torch.zeros(3)})
    assert "No checkpoint at step 2, the last good one stays" in caplog.text
    state = checkpoint.read()
    assert state is not None
    assert state["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_damaged_or_hostile_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    assert Checkpoint(file, 0).read() is None
    torch.save({"step": print}, file)  # a function: what unpickling would import
    with pytest.raises(FinetunerError, match="checkpoint must be complete. Got c.pt, which cannot be read"):
        Checkpoint(file, 0).read()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FinetunerError, match="Start a new run"):
        Checkpoint(file, 0).read()


def killed_and_resumed(
    trainer: Trainer,
    name: str,
    delay: float,
    ask: Callable[..., Any],
    wait_until: Callable[..., None],
    workers: Callable[[], list[psutil.Process]],
) -> bool:
    """Start a run, kill its worker a while after the first checkpoint, resume; return whether it was under way."""
    run = ask(trainer.fit, config=FIT | {"run_name": name})
    checkpoint = trainer.shared_workspace.run(run["artifact_id"]) / "checkpoint.pt"
    wait_until(
        lambda: checkpoint.exists() or ask(trainer.status_of_run, name=name)["status"] == "FINISHED", "a checkpoint"
    )
    time.sleep(delay)
    for worker in workers():
        worker.send_signal(signal.SIGKILL)
    wait_until(lambda: ask(trainer.status_of_run, name=name)["status"] in ("FAILED", "FINISHED"), "the end")
    if ask(trainer.status_of_run, name=name)["status"] == "FINISHED":
        return False
    assert ask(trainer.resume_run, name=name)["status"] == "CREATED"
    return True


def losses_of(trainer: Trainer, name: str, ask: Callable[..., Any]) -> list[tuple[Any, ...]]:
    fields = ("step", "epoch", "loss", "learning_rate", "val_loss")
    return [tuple(step[field] for field in fields) for step in ask(trainer.metrics_of_run, name=name)["steps"]]


def weights_of(trainer: Trainer, run: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    models = trainer.shared_workspace.artifacts / run["artifact_id"] / "models"
    return {
        f"{file.parent.name}/{name}": value
        for file in sorted(models.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


@pytest.fixture
def kills(
    tmp_path: Path,
    push: Callable[..., Any],
    pairs: list[Document],
    ask: Callable[..., Any],
    wait_until: Callable[..., None],
    wait_for_end: Callable[..., dict[str, Any]],
    workers_in: Callable[[Path], list[psutil.Process]],
) -> Callable[[int], None]:
    """Kill a run at this many random moments, one run each, and compare with one that was left alone."""

    def kills(count: int) -> None:
        trainer, moments = Trainer(workspace_url=str(tmp_path), threads=1, checkpoint_seconds=0), random.Random(count)
        try:
            push(trainer, "pairs", pairs)
            ask(trainer.fit, config=FIT | {"run_name": "whole"})
            expected = weights_of(trainer, wait_for_end(trainer, "whole"))
            assert expected
            steps = losses_of(trainer, "whole", ask)
            killed = 0
            for number in range(count):
                name, delay = f"killed-{number}", moments.uniform(0, 2)
                killed += killed_and_resumed(trainer, name, delay, ask, wait_until, lambda: workers_in(tmp_path))
                run = wait_for_end(trainer, name)
                assert (run["status"], run["details"]) == ("FINISHED", "Training finished")
                found = weights_of(trainer, run)
                assert found.keys() == expected.keys()
                assert all(torch.equal(value, found[name]) for name, value in expected.items())
                assert losses_of(trainer, name, ask) == steps
                assert not (trainer.shared_workspace.run(run["artifact_id"]) / "checkpoint.pt").exists()
            assert killed, "no run was killed in time"
        finally:
            trainer.close()

    return kills


@pytest.mark.slow
def test_a_run_killed_at_a_random_step_ends_in_the_same_weights(kills: Callable[[int], None]) -> None:
    kills(1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_20_runs_killed_at_random_steps_end_in_the_same_weights(kills: Callable[[int], None]) -> None:
    kills(20)


@pytest.mark.slow
def test_a_new_run_resumes_from_the_checkpoint_of_an_old_one(
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
        push(trainer, "others", pairs[:10])
        old = ask(trainer.fit, config=FIT | {"run_name": "old", "epochs": 10_000})
        checkpoint = trainer.shared_workspace.run(old["artifact_id"]) / "checkpoint.pt"
        wait_until(checkpoint.exists, "the first epoch's checkpoint")
        with pytest.raises(InvalidInput, match="run must have ended. Got 'old'"):
            ask(trainer.fit, config=FIT | {"resume_from": "old"})
        ask(trainer.cancel_run, name="old")
        assert checkpoint.exists()
        for fields, message in (
            ({}, "epochs must be that of the run 'old' to resume from: 10000. Got 6."),
            ({"epochs": 10_000, "scheduler": "linear"}, "scheduler must be that of"),
            ({"epochs": 10_000, "batch_size": 8}, "batch_size must be that of"),
            ({"epochs": 10_000, "train_data": "others"}, "the data for 'train' must be that of the run 'old'"),
        ):
            with pytest.raises(InvalidInput, match=message):
                ask(trainer.fit, config=FIT | {"resume_from": "old"} | fields)
        ask(trainer.fit, config=FIT | {"run_name": "new", "resume_from": "old", "epochs": 10_000})
        wait_until(lambda: "Resuming from step" in ask(trainer.logs_of_run, name="new")["text"], "going on")
        ask(trainer.cancel_run, name="new")
        ask(trainer.fit, config=FIT | {"run_name": "whole", "epochs": 1})
        assert wait_for_end(trainer, "whole")["status"] == "FINISHED"
        with pytest.raises(InvalidInput, match="Got 'whole', which is FINISHED and has none"):
            ask(trainer.fit, config=FIT | {"resume_from": "whole", "epochs": 1})
        with pytest.raises(InvalidInput, match="run must have failed or been canceled. Got 'whole'"):
            ask(trainer.resume_run, name="whole")
    finally:
        trainer.close()
