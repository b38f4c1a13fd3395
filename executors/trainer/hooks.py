"""What may happen around training: the interface of a run's callbacks, and what they see of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from finetuner.model_kinds import Model


@dataclass
class Progress:
    """How far a run is; the loop writes it, hooks read it, and some write what later hooks read."""

    model: Model
    """Being tuned in place."""
    epoch: int = 0
    """The one under way or just over, from 1; 0 before training."""
    step: int = 0
    """The last one, from 1, over the whole run; 0 before training."""
    values: dict[str, float] = field(default_factory=dict)
    """The newest value of everything that can be monitored: loss, train_loss, val_loss, metrics."""
    stop: str = ""
    """Why training must end after this epoch; '' lets it go on."""


class Hook:
    """Does nothing at each moment; hooks override what they need. They are called in the order of their list."""

    def before_training(self, progress: Progress) -> None:
        """Once, with the weights that the run starts from."""

    def after_step(self, progress: Progress) -> None:
        """After each step; the network is in training mode, and must be again."""

    def after_epoch(self, progress: Progress) -> None:
        """After each epoch; the network is in eval mode."""

    def choose_weights(self, progress: Progress) -> None:
        """Once after training: put the weights into the model that shall be published."""

    def after_training(self, progress: Progress) -> None:
        """Once, with the weights that are published."""
