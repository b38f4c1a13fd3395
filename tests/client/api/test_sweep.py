"""Plans and results of sweeps; `tests/flows/test_sweep.py` runs one."""

from __future__ import annotations

from typing import Any

import pytest

import finetuner
from finetuner.api.sweep import Candidate, Trial, plan, summary
from finetuner.exceptions import InvalidInput

A, B, C = Candidate("default", None), Candidate("keep", None), Candidate("default", 1e-3)


def trial(candidate: Candidate, score: float | None, seed: int = 0, epochs: int = 8) -> Trial:
    return Trial(candidate, epochs, seed, f"{candidate}-{epochs}-{seed}", f"{candidate}/{seed}", score, None)


def test_half_of_the_candidates_go_on_to_twice_the_epochs() -> None:
    assert plan(1, 8, 3) == [(1, 8, 3)]
    assert plan(2, 8, 3) == [(2, 8, 3)]
    assert plan(3, 8, 3) == [(3, 4, 1), (2, 8, 3)]
    assert plan(9, 8, 2) == [(9, 1, 1), (5, 2, 1), (3, 4, 1), (2, 8, 2)]
    assert plan(16, 4, 1) == [(16, 1, 1), (8, 1, 1), (4, 2, 1), (2, 4, 1)], "at least one epoch"


def test_the_best_mean_wins_and_a_lead_within_the_spread_is_none() -> None:
    early = [trial(C, 0.9, epochs=4)]  # of a shorter run, which decides nothing
    near = summary([*early, trial(A, 0.5), trial(A, 0.6, 1), trial(B, 0.57), trial(B, 0.58, 1)], 8, 0.2)
    assert near.winner == B
    assert near.artifact_id == "keep/1"
    assert near.scores == {"keep": pytest.approx(0.575), "default": pytest.approx(0.55)}
    assert (near.margin, near.spread, near.before) == (pytest.approx(0.025), pytest.approx(0.1), 0.2)
    assert "within the spread of the seeds, 0.100, so the two are alike" in near.verdict
    far = summary([trial(A, 0.7), trial(A, 0.71, 1), trial(B, None), trial(B, 0.5, 1)], 8, 0.2)
    assert far.winner == A
    assert far.verdict.endswith("0.205 more than keep; the spread of the seeds is 0.010.")
    assert summary([trial(A, 0.7)], 8, 0.2).verdict == "default reaches a mean R@5 of 0.700 (before: 0.200)."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 29}, "budget must be at least 60 passes over the data for 3 candidates. Got 29"),
        ({"recipes": ["default", "default"]}, "candidates, none twice. Got 2, 1 of them different"),
        ({"recipes": []}, "Got 0, 0 of them"),
        ({"recipes": "best"}, "recipe must be one of"),
        ({"learning_rates": [1e-3, -1]}, "learning_rates must be a number in"),
        ({"epochs": 0}, "epochs must be"),
        ({"seeds": 0}, "seeds must be"),
        ({"seed": 3}, "seed is what a sweep decides"),
        ({"recipe": "keep"}, "recipe is what a sweep decides"),
    ],
)
def test_bad_input_starts_nothing(options: dict[str, Any], message: str, own_session: None) -> None:
    with pytest.raises(InvalidInput, match=message):
        finetuner.sweep("clip-mini", "train", "eval", **options)
