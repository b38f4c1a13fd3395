"""Replay: pairs of another dataset beside those of each batch, so that a CLIP keeps what it can do with them.

As in experience replay (Rolnick et al., arXiv:1811.11682).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .training_data import Plan, TrainingData


@dataclass(frozen=True)
class ReplayPlan(Plan):
    """Images of one batch, and those of the replay data beside them."""

    replayed: Plan
    """As many."""


class Replay:
    """Draws the pairs that are replayed.

    Args:
        data: at least two images.
        seed: of the run.
    """

    def __init__(self, data: TrainingData, seed: int) -> None:
        self.data = data
        self._seed = seed

    def beside(self, plans: Sequence[Plan], epoch: int) -> list[ReplayPlan]:
        """Return the batches with as many replayed images. An epoch, counted from 1, always draws the same."""
        generator = np.random.default_rng([self._seed, 3, epoch])
        sizes = [len(plan.rows) for plan in plans]
        rows = np.resize(generator.permutation(len(self.data)), sum(sizes))
        choices = generator.integers([len(self.data.captions[row]) for row in rows.tolist()]).astype(np.int64)
        ends = np.cumsum(sizes)[:-1]
        drawn = map(Plan, np.split(rows, ends), np.split(choices, ends))
        return [ReplayPlan(plan.rows, plan.choices, own) for plan, own in zip(plans, drawn, strict=True)]
