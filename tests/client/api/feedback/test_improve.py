"""The rule that decides whether a round's model goes live."""

from __future__ import annotations

import math

import pytest

from finetuner.api.feedback.improve import reason_against


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((0.5, 0.51, 0.4, 0.39), ""),
        ((0.5, 0.509, 0.4, 0.4), "held-out"),
        ((0.5, 0.9, 0.4, 0.389), "guard"),
        ((0.5, math.nan, 0.4, 0.4), "held-out"),
        ((math.nan, 0.9, 0.4, 0.4), "held-out"),
        ((0.5, 0.9, 0.4, math.nan), "guard"),
    ],
)
def test_a_model_goes_live_only_if_it_is_better_and_forgets_nothing(
    scores: tuple[float, float, float, float], expected: str
) -> None:
    reason = reason_against(*scores, 0.01, 0.01)
    assert (reason == "") if not expected else expected in reason
