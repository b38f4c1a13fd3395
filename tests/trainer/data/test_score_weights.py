"""Weights from scores against their formulas, one score at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finetuner.config.losses import SCORE_CHOICES
from finetuner.executors.trainer.data.score_weights import ScoreWeights

SCORES = [[0.5, 3.0], [1.0], [3.0, 0.5, 2.0]]


def naive(choice: str, score: float) -> float:
    """Return the weight of a score of SCORES, before the division by the mean."""
    rescaled = (score - 0.5) / (3.0 - 0.5) + 0.1
    return {"constant": 1.0, "linear": rescaled, "log": math.log1p(rescaled)}[choice]


@pytest.mark.parametrize("choice", SCORE_CHOICES)
def test_weights_follow_the_formulas_and_have_mean_1(choice: str) -> None:
    every = [score for row in SCORES for score in row]
    mean = sum(naive(choice, score) for score in every) / len(every)
    found = ScoreWeights.fitted(choice, SCORES)(np.array(every))
    assert found == pytest.approx([naive(choice, score) / mean for score in every], rel=1e-12)
    assert found.mean() == pytest.approx(1.0)
    assert found.min() > 0


@pytest.mark.parametrize("choice", ["linear", "log"])
def test_a_higher_score_has_a_higher_weight(choice: str) -> None:
    found = ScoreWeights.fitted(choice, SCORES)(np.linspace(0.5, 3.0, 20))
    assert (np.diff(found) > 0).all()
    assert found[-1] / found[0] == pytest.approx({"linear": 11.0, "log": math.log(2.1) / math.log(1.1)}[choice])


@pytest.mark.parametrize("choice", SCORE_CHOICES)
def test_scores_of_other_data_count_within_the_range(choice: str) -> None:
    weights = ScoreWeights.fitted(choice, SCORES)
    assert weights(np.array([0.0, 1e308])).tolist() == weights(np.array([0.5, 3.0])).tolist()


@pytest.mark.parametrize("choice", SCORE_CHOICES)
@pytest.mark.parametrize("score", [0.0, 7.0])
def test_equal_scores_give_equal_weights(choice: str, score: float) -> None:
    weights = ScoreWeights.fitted(choice, [[score], [score, score]])
    assert weights.all_equal
    assert weights(np.array([score, score + 1])).tolist() == [1.0, 1.0]


def test_the_largest_numbers_do_not_overflow() -> None:
    weights = ScoreWeights.fitted("linear", [[0.0], [1.7e308]])
    assert np.isfinite(weights(np.array([0.0, 1e300, 1.7e308]))).all()
