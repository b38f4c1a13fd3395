"""The rule for promotions on manifests' metrics, and through the endpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.evaluation.pairs import image_to_text, text_to_image
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.artifacts.promotion import Headline, headline, refuse_regression
from finetuner.executors.trainer.executor import Trainer
from finetuner.models.clip import TOWERS, Clip

Ask = Callable[..., Any]
ID = "a" * 24
REFUSED = (
    rf"artifact must not be worse than before tuning: mean_recall_at_5 of at least 0.7000 - 0.01. "
    rf"Got 0.6000 in {ID}. Pass force=True to promote it anyway."
)


def recalls(text: float, image: float) -> dict[str, float]:
    return {text_to_image(5): text, image_to_text(5): image}


def manifest(before: dict[str, float], after: dict[str, float]) -> Manifest:
    metrics = {"before": before, "after": after} if before or after else {}
    return Manifest(ID, "run", "clip-mini", 64, [*TOWERS], metrics, {}, "2026-01-01", "0")


def test_the_headline_on_pairs_is_the_mean_recall_of_both_directions() -> None:
    others = {"train_loss": 9.0, "clip-text-to-clip-vision_ndcg_at_k": 1.0, text_to_image(5, "de"): 1.0}
    found = headline({"before": recalls(0.8, 0.6), "after": recalls(0.5, 0.9) | others})
    assert found == Headline("mean_recall_at_5", pytest.approx(0.7), pytest.approx(0.7))


def test_without_pairs_the_headline_is_the_mean_of_recalls_and_ndcgs() -> None:
    before = {"a_recall_at_k": 0.2, "a_ndcg_at_k": 0.6, "b_recall_at_k": 0.9, "guard_recall_at_k": 0.9, "loss": 1.0}
    after = {"a_recall_at_k": 0.4, "a_ndcg_at_k": 0.8, "guard_recall_at_k": 0.1, "loss": 2.0, "a_precision_at_k": 0.1}
    found = headline({"before": before, "after": after})
    assert found == Headline("mean of recalls and NDCGs", pytest.approx(0.4), pytest.approx(0.6))


@pytest.mark.parametrize(
    "metrics",
    [{}, {"before": recalls(1, 1)}, {"before": {"loss": 1.0}, "after": {"loss": 9.0}}, {"before": {}, "after": {}}],
    ids=str,
)
def test_nothing_to_compare_is_accepted(metrics: dict[str, dict[str, float]]) -> None:
    assert headline(metrics) is None
    refuse_regression(Manifest(ID, "run", "clip-mini", 64, [*TOWERS], metrics, {}, "2026-01-01", "0"), 0)


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "accepted"),
    [
        (0.7, 0.7, 0, True),
        (0.7, 0.8, 0, True),
        (0.7, 0.699, 0, False),
        (0.5, 0.49, 0.01, True),
        (0.5, 0.4899, 0.01, False),
        (1.0, 0.0, 1, True),
        (0.7, math.nan, 1, False),
        (math.nan, 0.7, 1, False),
    ],
)
def test_the_score_may_fall_by_the_tolerance(before: float, after: float, tolerance: float, accepted: bool) -> None:
    tuned = manifest(recalls(before, before), recalls(after, after))
    if accepted:
        refuse_regression(tuned, tolerance)
    else:
        with pytest.raises(InvalidInput, match="artifact must not be worse than before tuning"):
            refuse_regression(tuned, tolerance)


def test_a_regression_is_refused_for_every_alias_unless_forced(trainer: Trainer, clip_mini: Clip, ask: Ask) -> None:
    publish_artifact(trainer.shared_workspace, clip_mini, manifest(recalls(0.7, 0.7), recalls(0.5, 0.7)), {})
    for parameters in ({}, {"alias": "candidate"}, {"force": False}, {"tolerance": 0.01}):
        with pytest.raises(InvalidInput, match=REFUSED):
            ask(trainer.promote, artifact=ID, **parameters)
    assert list(trainer.shared_workspace.aliases.all()) == []
    assert ask(trainer.promote, artifact=ID, tolerance=0.2, alias="candidate")["artifact"] == ID
    assert ask(trainer.promote, artifact=ID, force=True) == {"alias": "live", "artifact": ID}
    assert ask(trainer.promote, artifact="clip-mini") == {"alias": "live", "artifact": "clip-mini"}
    with pytest.raises(InvalidInput, match=REFUSED):
        ask(trainer.promote, artifact="candidate")
