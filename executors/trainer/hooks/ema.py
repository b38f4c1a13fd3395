"""Publishes an exponential moving average of the weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .hook import Hook, Progress

log = logging.getLogger("finetuner")


class AverageWeights(Hook):
    """Exponential moving average: after each step, average = decay * average + (1 - decay) * weights.

    The average starts with the weights after the first step. It covers the trained parameters. Buffers, such as the
    statistics of batch norms, keep their values after the last step.

    Args:
        decay: in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._average: dict[str, torch.Tensor] = {}

    def after_step(self, progress: Progress) -> None:
        """Add the weights of the step to the average."""
        weights = _trained(progress)
        if not self._average:
            self._average = {name: value.clone() for name, value in weights.items()}
            return
        self._average = {name: self._average[name].to(value.device) for name, value in weights.items()}
        self._update(list(self._average.values()), list(weights.values()), progress.step)

    def choose_weights(self, progress: Progress) -> None:
        """Copy the average into the network."""
        for name, value in _trained(progress).items():
            value.copy_(self._average[name])
        log.info("Average of the weights over %d steps, decay %g", progress.step, self._decay)

    def state(self) -> dict[str, Any]:
        """Return the average so far."""
        return {"average": self._average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore an average, from any device."""
        self._average = dict(state["average"])


def _trained(progress: Progress) -> dict[str, torch.Tensor]:
    network = progress.model.network
    return {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}
