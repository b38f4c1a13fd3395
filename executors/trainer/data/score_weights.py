"""Weights of pairs from their scores: generalised contrastive learning, Zhu et al., arXiv:2404.08535.

The paper does not publish its functions. These are ours. With the lowest score `low` and the highest `high` of the
training data, and r = (score - low) / (high - low) + 0.1:

    constant    1
    linear      r, so that the best pair counts 11 times as much as the worst
    log         log(1 + r), so that it counts 8 times as much

Each is divided by its mean over the training data, so that the mean weight is 1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetuner.config.losses import CONSTANT, LINEAR, LOG, SCORE_WEIGHTS, require_scores

LEAST = 0.1
"""Weight of the lowest score under 'linear', before the division: no pair is without weight."""

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class ScoreWeights:
    """A function from scores to weights, fitted to the scores of the training data."""

    choice: str
    """One of `losses.SCORE_CHOICES`."""
    low: float
    """Lowest score of the training data."""
    high: float
    """Highest score of the training data."""
    mean: float
    """Mean of the weights over the training data, before they are divided by it."""

    @classmethod
    def fitted(cls, choice: str, scores: Sequence[Sequence[float]]) -> ScoreWeights:
        """Return the function for the scores of each image's captions, at least one score."""
        every = np.concatenate([np.asarray(row, dtype=np.float64) for row in scores])
        raw = cls(choice, float(every.min()), float(every.max()), 1.0)
        return cls(choice, raw.low, raw.high, float(raw(every).mean()))

    @property
    def all_equal(self) -> bool:
        """Whether all training scores are equal. Every weight is then 1."""
        return self.low == self.high

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return (batch,) float64, above 0, for (batch,) scores. Scores of other data count as `low` to `high`."""
        if self.choice == CONSTANT or self.all_equal:
            return np.ones(len(scores))
        rescaled = (np.clip(scores, self.low, self.high) - self.low) / (self.high - self.low) + LEAST
        weights: np.ndarray = (np.log1p(rescaled) if self.choice == LOG else rescaled) / self.mean
        return weights


def weights_for(scores: Sequence[Sequence[float]] | None, loss_options: Mapping[str, Any]) -> ScoreWeights | None:
    """Return the weights of a run's pairs by the scores of its training data, None for pairs without scores.

    The data of the validation loss gets weights by the same function if it has scores, and equal ones otherwise.

    Args:
        scores: of each image's captions.
        loss_options: of the run.

    Raises:
        InvalidInput: `score_weights` without scores.
    """
    if scores is None:
        require_scores(loss_options)
        return None
    weights = ScoreWeights.fitted(loss_options.get(SCORE_WEIGHTS, LINEAR), scores)
    if weights.all_equal and weights.choice != CONSTANT:
        log.warning(
            "All scores of train_data are %g: every pair has the same weight. Check the scores, or remove them",
            weights.low,
        )
    return weights
