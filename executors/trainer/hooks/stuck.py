"""Warns if a contrastive loss stays at the level of guessing."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from .hook import Hook, Progress

FIRST_EPOCHS = 3
SHARE = 0.98
"""Share of ln(batch size) above which a loss is stuck. Pairs masked as false negatives lower the loss slightly."""

log = logging.getLogger("finetuner")


class WarnIfStuck(Hook):
    """Warns once if the mean loss of one of the first epochs is at the level of guessing, ln(batch size).

    Args:
        batch_size: pairs that compete with each other, at least 2.
    """

    def __init__(self, batch_size: int) -> None:
        self._chance = math.log(batch_size)
        self._batch_size = batch_size
        self._warned = False

    def after_epoch(self, progress: Progress) -> None:
        """Compare the epoch's loss with guessing."""
        loss = progress.values["train_loss"]
        if self._warned or progress.epoch > FIRST_EPOCHS or loss <= SHARE * self._chance:
            return
        self._warned = True
        log.warning(
            "The loss is stuck: %.4f after epoch %d, and guessing gives ln(%d) = %.4f. Likely causes: captions that "
            "many images share, a learning rate that is too high or too low, images preprocessed otherwise than "
            "for pretraining, or weights trained with quick-GELU in a network without it",
            loss,
            progress.epoch,
            self._batch_size,
            self._chance,
        )

    def state(self) -> dict[str, Any]:
        """Return whether the warning was logged."""
        return {"warned": self._warned}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore it: the warning comes once a run."""
        self._warned = state["warned"]
