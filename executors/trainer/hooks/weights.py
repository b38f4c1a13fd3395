"""Hooks that watch values and keep weights: best model, early stopping, checkpoints."""

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
    """Return a copy of a network's state on the CPU; training does not change it."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


class Watch:
    """Follows one value.

    Args:
        settings: says which one, and what is better; 'auto' is less for what ends in 'loss', more otherwise.
        min_delta: only more than this is better.
        best: to be better than; None for anything.
    """

    def __init__(
        self, settings: BestModelCheckpoint | EarlyStopping, min_delta: float = 0.0, best: float | None = None
    ) -> None:
        self.name = settings.monitor
        least = settings.monitor.endswith("loss") if settings.mode == "auto" else settings.mode == "min"
        self._sign = -1.0 if least else 1.0
        self._min_delta = min_delta
        self.best = best if best is not None else -self._sign * math.inf

    def is_better(self, values: Mapping[str, float]) -> bool:
        """Return whether the value is better than the best so far, which it then becomes."""
        value = values[self.name]
        better = self._sign * (value - self.best) > self._min_delta
        if better:
            self.best = value
        return better


class KeepBestModel(Hook):
    """Publishes the weights of the best epoch.

    Args:
        settings: what is watched.
    """

    def __init__(self, settings: BestModelCheckpoint) -> None:
        self._watch = Watch(settings)
        self._epoch = 0
        self._weights: Weights = {}

    def after_epoch(self, progress: Progress) -> None:
        """Keep the weights if they are the best so far."""
        if self._watch.is_better(progress.values):
            self._epoch, self._weights = progress.epoch, copied_weights(progress.model.network)
            log.info("Best model so far: epoch %d, %s %.5f", self._epoch, self._watch.name, self._watch.best)

    def choose_weights(self, progress: Progress) -> None:
        """Go back to the best weights."""
        if self._weights:
            progress.model.network.load_state_dict(self._weights)
            log.info("Best model: epoch %d of %d", self._epoch, progress.epoch)

    def state(self) -> dict[str, Any]:
        """Return the best value, its epoch and its weights."""
        return {"best": self._watch.best, "epoch": self._epoch, "weights": dict(self._weights)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self._watch.best, self._epoch, self._weights = state["best"], state["epoch"], state["weights"]


class StopEarly(Hook):
    """Ends training where a value no longer gets better.

    Args:
        settings: what is watched, and for how long.
    """

    def __init__(self, settings: EarlyStopping) -> None:
        self._watch = Watch(settings, settings.min_delta, settings.baseline)
        self._patience = max(settings.patience, 1)
        self._waited = 0

    def after_epoch(self, progress: Progress) -> None:
        """Count epochs without improvement."""
        self._waited = 0 if self._watch.is_better(progress.values) else self._waited + 1
        if self._waited >= self._patience:
            progress.stop = (
                f"Early stopping after epoch {progress.epoch}: {self._watch.name} has not been better than "
                f"{self._watch.best:.5f} for {self._waited} epochs"
            )

    def state(self) -> dict[str, Any]:
        """Return the best value, and for how many epochs none was better."""
        return {"best": self._watch.best, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with them."""
        self._watch.best, self._waited = state["best"], state["waited"]


class KeepCheckpoints(Hook):
    """Keeps the models of the last epochs, each in the layout that `finetuner.models.model_kinds.load_model` reads.

    Args:
        folder: gets `epoch-0001/`, `epoch-0002/`, ...
        count: how many stay.
        adapters: of the network, where it has any; they are merged into what is written.
    """

    def __init__(self, folder: Path, count: int, adapters: TrainAdapters | None = None) -> None:
        self._folder = folder
        self._count = count
        self._adapters = adapters

    def after_epoch(self, progress: Progress) -> None:
        """Write this epoch's model, then remove the oldest; a name is given to a whole checkpoint only."""
        final = self._folder / f"epoch-{progress.epoch:04d}"
        write_checkpoint(self._adapters.merged(progress.model) if self._adapters else progress.model, final)
        kept = sorted(path for path in self._folder.iterdir() if re.fullmatch(r"epoch-\d+", path.name))
        for old in kept[: -self._count]:
            shutil.rmtree(old)
        log.info("Checkpoint written: %s", final.name)


def write_checkpoint(model: Model, folder: Path) -> None:
    """Write a model, all or nothing; what an earlier attempt at the run left there is replaced."""
    temporary = folder.with_name(f".{folder.name}")
    for left in (temporary, folder):
        shutil.rmtree(left, ignore_errors=True)
    save_model(model, temporary)
    os.rename(temporary, folder)
