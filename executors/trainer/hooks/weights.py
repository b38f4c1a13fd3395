"""Hooks that monitor values and keep weights: best model, early stopping, checkpoints."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from finetuner.config.callbacks import BestModelCheckpoint, EarlyStopping
from finetuner.models.model_kinds import Model, save_model

from .hook import Hook, Progress
from .lora import TrainAdapters

Weights = Mapping[str, torch.Tensor]
"""A network's state by name, copied to the CPU."""

log = logging.getLogger("finetuner")


def copied_weights(network: torch.nn.Module) -> Weights:
    """Return a copy of a network's state on the CPU, which training does not change."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


class Monitor:
    """Compares a value with its best so far.

    Args:
        settings: name and mode. Mode 'auto' is 'min' for names that end in 'loss', 'max' otherwise.
        min_delta: an improvement must exceed this.
        best: value to exceed; None accepts any first value.
    """

    def __init__(
        self, settings: BestModelCheckpoint | EarlyStopping, min_delta: float = 0.0, best: float | None = None
    ) -> None:
        self.name = settings.monitor
        lower = settings.monitor.endswith("loss") if settings.mode == "auto" else settings.mode == "min"
        self._sign = -1.0 if lower else 1.0
        self._min_delta = min_delta
        self.best = best if best is not None else -self._sign * math.inf

    def is_better(self, values: Mapping[str, float]) -> bool:
        """Return whether the value beats the best so far; if so, it becomes the best."""
        value = values[self.name]
        better = self._sign * (value - self.best) > self._min_delta
        if better:
            self.best = value
        return better


class KeepBestModel(Hook):
    """Publishes the weights of the best epoch.

    Args:
        settings: value to monitor.
    """

    def __init__(self, settings: BestModelCheckpoint) -> None:
        self._monitor = Monitor(settings)
        self._epoch = 0
        self._weights: Weights = {}

    def after_epoch(self, progress: Progress) -> None:
        """Copy the weights if they are the best so far."""
        if self._monitor.is_better(progress.values):
            self._epoch, self._weights = progress.epoch, copied_weights(progress.model.network)
            log.info("Best model so far: epoch %d, %s %.5f", self._epoch, self._monitor.name, self._monitor.best)

    def choose_weights(self, progress: Progress) -> None:
        """Load the best weights."""
        if self._weights:
            progress.model.network.load_state_dict(self._weights)
            log.info("Best model: epoch %d of %d", self._epoch, progress.epoch)

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch and its weights."""
        return {"best": self._monitor.best, "epoch": self._epoch, "weights": dict(self._weights)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._monitor.best, self._epoch, self._weights = state["best"], state["epoch"], state["weights"]


class StopEarly(Hook):
    """Ends training when a value stops improving.

    Args:
        settings: value to monitor, and patience.
    """

    def __init__(self, settings: EarlyStopping) -> None:
        self._monitor = Monitor(settings, settings.min_delta, settings.baseline)
        self._patience = max(settings.patience, 1)
        self._waited = 0

    def after_epoch(self, progress: Progress) -> None:
        """Count epochs without improvement."""
        self._waited = 0 if self._monitor.is_better(progress.values) else self._waited + 1
        if self._waited >= self._patience:
            progress.stop = (
                f"Early stopping after epoch {progress.epoch}: {self._monitor.name} has not been better than "
                f"{self._monitor.best:.5f} for {self._waited} epochs"
            )

    def state(self) -> dict[str, Any]:
        """Return the best value, and the number of epochs without a better one."""
        return {"best": self._monitor.best, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._monitor.best, self._waited = state["best"], state["waited"]


class KeepCheckpoints(Hook):
    """Keeps the models of the last epochs, in the layout of `finetuner.models.model_kinds.load_model`.

    Args:
        folder: receives `epoch-0001/`, `epoch-0002/`, ...
        count: number of models to keep.
        adapters: of the network, if any; merged into the written models.
    """

    def __init__(self, folder: Path, count: int, adapters: TrainAdapters | None = None) -> None:
        self._folder = folder
        self._count = count
        self._adapters = adapters

    def after_epoch(self, progress: Progress) -> None:
        """Write the model of this epoch, then remove the oldest. Only a complete model has its final name."""
        final = self._folder / f"epoch-{progress.epoch:04d}"
        write_checkpoint(self._adapters.merged(progress.model) if self._adapters else progress.model, final)
        kept = sorted(path for path in self._folder.iterdir() if re.fullmatch(r"epoch-\d+", path.name))
        for old in kept[: -self._count]:
            shutil.rmtree(old)
        log.info("Checkpoint written: %s", final.name)


def write_checkpoint(model: Model, folder: Path) -> None:
    """Write a model, all or nothing. Replace one that an earlier attempt at the run left."""
    temporary = folder.with_name(f".{folder.name}")
    for left in (temporary, folder):
        shutil.rmtree(left, ignore_errors=True)
    save_model(model, temporary)
    os.rename(temporary, folder)
