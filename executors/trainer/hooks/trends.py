"""Warns if a run diverges or over-fits, and says what to do."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from .hook import Hook, Progress

ROSE = 1.25
"""An epoch whose loss is this many times the lowest of those before diverges."""
OVER = 1.05
"""A validation loss this many times its lowest, while the training loss fell, is over-fitted."""

log = logging.getLogger("finetuner")


class WarnOfTrends(Hook):
    """Warns once of a training loss that rises, and once of a validation loss that rises while it falls."""

    def __init__(self) -> None:
        self._lowest = math.inf
        self._best, self._best_epoch, self._train_then = math.inf, 0, math.inf
        self._warned: list[str] = []

    def after_epoch(self, progress: Progress) -> None:
        """Compare the epoch's losses with the lowest ones before."""
        loss, val_loss = progress.values["train_loss"], progress.values.get("val_loss")
        if loss > ROSE * self._lowest > 0:
            self._warn(
                "diverged",
                f"The run diverges: the loss is {loss:.4f} after epoch {progress.epoch}, and was {self._lowest:.4f}. "
                f"Lower the learning rate, now {progress.values.get('learning_rate', math.nan):.3g}, or take one that "
                f"warms up, such as scheduler='cosine'",
            )
        self._lowest = min(self._lowest, loss)
        if val_loss is None:
            return
        if val_loss < self._best:
            self._best, self._best_epoch, self._train_then = val_loss, progress.epoch, loss
        elif val_loss > OVER * self._best > 0 and loss < self._train_then:
            self._warn(
                "over-fitted",
                f"The run over-fits: val_loss is {val_loss:.4f} after epoch {progress.epoch} and was {self._best:.4f} "
                f"after epoch {self._best_epoch}, while the training loss fell from {self._train_then:.4f} to "
                f"{loss:.4f}. Publish the best epoch with BestModelCheckpoint, end with EarlyStopping, take fewer "
                f"epochs, or more data",
            )

    def state(self) -> dict[str, Any]:
        """Return the lowest losses, and which warnings were logged."""
        return {
            "lowest": self._lowest,
            "best": [self._best, self._best_epoch, self._train_then],
            "warned": list(self._warned),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned: each warning comes once a run."""
        self._lowest, self._warned = state["lowest"], list(state["warned"])
        self._best, self._best_epoch, self._train_then = state["best"]

    def _warn(self, name: str, sentence: str) -> None:
        if name not in self._warned:
            self._warned.append(name)
            log.warning("%s", sentence)
