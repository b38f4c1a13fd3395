"""Hooks that watch values and keep weights: best model, early stopping, checkpoints, WiSE-FT."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from finetuner.callback import BestModelCheckpoint, EarlyStopping
from finetuner.model_kinds import save_model

from .hooks import Hook, Progress

Weights = Mapping[str, torch.Tensor]
"""A network's state by name, copied to the CPU."""

log = logging.getLogger("finetuner")


def copied_weights(network: torch.nn.Module) -> Weights:
    """Return a copy of a network's state on the CPU; training does not change it."""
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}


def interpolated(pretrained: Weights, tuned: Weights, alpha: float) -> Weights:
    """Return (1 - alpha) * pretrained + alpha * tuned, entry by entry (WiSE-FT, arXiv:2109.01903).

    Args:
        pretrained: floating point, any shape; what is not (counters, positions) is taken from `tuned`.
        tuned: the same names and shapes.
        alpha: in [0, 1]; 0 and 1 give exactly the one or the other.
    """
    if alpha == 0:
        return {name: value if value.is_floating_point() else tuned[name] for name, value in pretrained.items()}
    if alpha == 1:
        return tuned
    return {
        name: (1 - alpha) * pretrained[name] + alpha * value if value.is_floating_point() else value
        for name, value in tuned.items()
    }


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


class KeepCheckpoints(Hook):
    """Keeps the models of the last epochs, each in the layout that `finetuner.model_kinds.load_model` reads.

    Args:
        folder: gets `epoch-0001/`, `epoch-0002/`, ...
        count: how many stay.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count

    def after_epoch(self, progress: Progress) -> None:
        """Write this epoch's model, then remove the oldest; a name is given to a whole checkpoint only."""
        final = self._folder / f"epoch-{progress.epoch:04d}"
        temporary = self._folder / f".{final.name}"
        save_model(progress.model, temporary)
        os.rename(temporary, final)
        kept = sorted(path for path in self._folder.iterdir() if re.fullmatch(r"epoch-\d+", path.name))
        for old in kept[: -self._count]:
            shutil.rmtree(old)
        log.info("Checkpoint written: %s", final.name)


class MixWeights(Hook):
    """WiSE-FT: mixes the tuned weights with those that the run started from.

    Args:
        alpha: in [0, 1], share of the tuned ones.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._pretrained: Weights = {}

    def before_training(self, progress: Progress) -> None:
        """Keep the weights that the run starts from."""
        self._pretrained = copied_weights(progress.model.network)

    def choose_weights(self, progress: Progress) -> None:
        """Mix."""
        network = progress.model.network
        network.load_state_dict(interpolated(self._pretrained, copied_weights(network), self._alpha))
        log.info("WiSE-FT: %g of the weights are tuned, %g pretrained", self._alpha, 1 - self._alpha)
