"""Trains clip-mini for a few steps with hooks, as a run does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.curve import CurveFile
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.hooks.weights import Weights, copied_weights
from finetuner.executors.trainer.loop.checkpoint import Checkpoint
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone


class Recorder(Hook):
    """Records every call, and the weights after each step and epoch."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self.values: list[dict[str, float]] = []
        self.steps: list[Weights] = []
        self.weights: list[Weights] = []
        self.modes: set[tuple[str, bool]] = set()

    def after_step(self, progress: Progress) -> None:
        self.calls.append(("step", progress.epoch, progress.step))
        self.modes.add(("step", progress.model.network.training))
        self.steps.append(copied_weights(progress.model.network))

    def after_epoch(self, progress: Progress) -> None:
        self.calls.append(("epoch", progress.epoch, progress.step))
        self.modes.add(("epoch", progress.model.network.training))
        self.values.append(dict(progress.values))
        self.weights.append(copied_weights(progress.model.network))


class Announce(Hook):
    """Reports given values, one per epoch."""

    def __init__(self, name: str, values: list[float]) -> None:
        self._name = name
        self._values = values

    def after_epoch(self, progress: Progress) -> None:
        progress.values[self._name] = self._values[progress.epoch - 1]


def trained(
    data: TrainingData,
    *hooks: Hook,
    epochs: int = 3,
    model: Clip | None = None,
    checkpoint: Path | None = None,
    curve: CurveFile | None = None,
    batch_size: int = 4,
    replay: TrainingData | None = None,
    **fields: Any,
) -> tuple[Progress, list[dict[str, Any]]]:
    """Tune clip-mini, or `model`, on batches of four. Resume from a checkpoint if it exists.

    Returns:
        The run's progress, with the weights that hooks chose, and the points of its curve.
    """
    reports: list[dict[str, Any]] = []

    def report(point: dict[str, Any]) -> None:
        reports.append(point)
        if curve is not None:
            curve.add(point)

    kept = None if checkpoint is None else Checkpoint(checkpoint, 1e9)
    state = None if kept is None else kept.read()
    progress = Progress(model or load_backbone(find_backbone("clip-mini")), step=0 if state is None else state["step"])
    assert isinstance(progress.model, Clip)
    config = RunConfig(model="clip-mini", train_data="data", epochs=epochs, device="cpu", **fields)
    for hook in hooks:
        hook.before_training(progress)
    task = ClipTask(progress.model, data, config, batch_size, replay=replay)
    Training(task, progress, config, learning_rate=5e-4, report=report, hooks=hooks, checkpoint=kept, state=state).run()
    for hook in hooks:
        hook.choose_weights(progress)
    return progress, reports


def equal(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two networks have the same weights, bit for bit."""
    return set(left) == set(right) and all(torch.equal(value, right[name]) for name, value in left.items())
