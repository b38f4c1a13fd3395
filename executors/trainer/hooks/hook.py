"""The interface of hooks, and the progress of a run that they see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from finetuner.models.model_kinds import Model


@dataclass
class Progress:
    """Progress of a run. The loop writes it and hooks read it. Some hooks write values for later hooks."""

    model: Model
    """Tuned in place."""
    epoch: int = 0
    """Current epoch, or the one that just ended, from 1; 0 before training."""
    step: int = 0
    """Last step, from 1, over the whole run; 0 before training, unless the run is resumed."""
    values: dict[str, float] = field(default_factory=dict)
    """Newest values: loss, train_loss, val_loss, learning_rate, pairs_per_second, and metrics. `loss` is that of
    the last step, and after an epoch the epoch's mean, like `train_loss`."""
    stop: str = ""
    """Reason to end training after this epoch; '' continues."""


class Hook:
    """Empty methods that the loop calls; override the ones you need. Hooks are called in the order of their list."""

    def before_training(self, progress: Progress) -> None:
        """Called once with the initial weights, and again when the run is resumed, with `step` set."""

    def after_step(self, progress: Progress) -> None:
        """Called after each step. The network is in training mode, and must be so again at the end."""

    def after_epoch(self, progress: Progress) -> None:
        """Called after each epoch. The network is in eval mode."""

    def choose_weights(self, progress: Progress) -> None:
        """Called once after training: load the weights to publish into the model."""

    def after_training(self, progress: Progress) -> None:
        """Called once, with the published weights."""

    def close(self, *, failed: bool) -> None:
        """Called once at the very end, also after an error, before the run's outcome is written. Must not raise."""

    def state(self) -> dict[str, Any]:
        """Return the state to resume from: numbers, strings, lists, dicts and tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""


@contextmanager
def closing(hooks: Sequence[Hook]) -> Iterator[Sequence[Hook]]:
    """Yield the hooks. Close them at the end of the `with` block, as failed if an error left it."""
    failed = True
    try:
        yield hooks
        failed = False
    finally:
        for hook in hooks:
            hook.close(failed=failed)
