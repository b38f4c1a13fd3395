"""What may happen around training: the interface of a run's callbacks, and what they see of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from finetuner.models.model_kinds import Model


@dataclass
class Progress:
    """How far a run is; the loop writes it, hooks read it, and some write what later hooks read."""

    model: Model
    """Being tuned in place."""
    epoch: int = 0
    """The one under way or just over, from 1; 0 before training."""
    step: int = 0
    """The last one, from 1, over the whole run; 0 before training, unless the run goes on after a kill."""
    values: dict[str, float] = field(default_factory=dict)
    """The newest value of everything that can be monitored: loss (of the last step, and after an epoch its mean, as
    train_loss), val_loss, metrics; and learning_rate, pairs_per_second."""
    stop: str = ""
    """Why training must end after this epoch; '' lets it go on."""


class Hook:
    """Does nothing at each moment; hooks override what they need. They are called in the order of their list."""

    def before_training(self, progress: Progress) -> None:
        """Once, with the weights that the run starts from; again where it goes on after a kill, with `step` set."""

    def after_step(self, progress: Progress) -> None:
        """After each step; the network is in training mode, and must be again."""

    def after_epoch(self, progress: Progress) -> None:
        """After each epoch; the network is in eval mode."""

    def choose_weights(self, progress: Progress) -> None:
        """Once after training: put the weights into the model that shall be published."""

    def after_training(self, progress: Progress) -> None:
        """Once, with the weights that are published."""

    def close(self, *, failed: bool) -> None:
        """Once, last of all and before the run's outcome is told, whatever happened; must not raise."""

    def state(self) -> dict[str, Any]:
        """Return what the hook must know to go on after a kill: numbers, strings, lists, dicts and tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""


@contextmanager
def closing(hooks: Sequence[Hook]) -> Iterator[Sequence[Hook]]:
    """Yield hooks; close them at the end of the `with` block, failed where an error left it."""
    failed = True
    try:
        yield hooks
        failed = False
    finally:
        for hook in hooks:
            hook.close(failed=failed)
