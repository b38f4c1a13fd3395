"""The rule for promotions: an artifact that became worse by tuning is refused, unless the promotion is forced.

A manifest has the metrics of a model before and after tuning. The rule compares one headline score, higher is better:

1. On pairs, the mean of R@5 in both directions, `mean_recall_at_5`, over the texts of all languages. WiSE-FT and the
   guard use the same score.
2. Without those, the mean of all recalls and NDCGs of evaluation callbacks that exist before and after.
3. An artifact with neither was never scored. The rule accepts it.

Losses never count, nor do the guard's metrics: they measure other data, and the run's log warns when they fall.
The score after tuning may be lower by at most the tolerance. A score that is NaN is refused.

The rule holds for every alias, since requests can name any of them. Backbones have no metrics and always pass, so a
roll-back to a backbone needs no force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetuner.artifacts.manifest import Manifest
from finetuner.contract.wire import GUARD_PREFIX
from finetuner.evaluation.pairs import image_to_text, mean_recall, text_to_image
from finetuner.exceptions import InvalidInput

MEAN_RECALL = "mean_recall_at_5"
FALLBACK = "mean of recalls and NDCGs"
SUFFIXES = ("recall_at_k", "ndcg_at_k")
ROUNDING = 1e-9  # 0.5 - 0.49 is a little more than 0.01


@dataclass(frozen=True)
class Headline:
    """The score that decides a promotion."""

    name: str
    before: float
    """Of the weights that the run started from, in [0, 1]; NaN if the evaluation failed."""
    after: float
    """Of the published weights."""


def headline(metrics: Mapping[str, Mapping[str, float]]) -> Headline | None:
    """Return the headline score of a manifest's metrics, None if nothing can be compared.

    Args:
        metrics: {'before': {name: value}, 'after': {name: value}}.
    """
    before, after = metrics.get("before", {}), metrics.get("after", {})
    both = before.keys() & after.keys()
    if {text_to_image(5), image_to_text(5)} <= both:
        return Headline(MEAN_RECALL, mean_recall(before), mean_recall(after))
    names = sorted(name for name in both if name.endswith(SUFFIXES) and not name.startswith(GUARD_PREFIX))
    if not names:
        return None
    return Headline(FALLBACK, *(sum(stage[name] for name in names) / len(names) for stage in (before, after)))


def refuse_regression(manifest: Manifest, tolerance: float) -> None:
    """Refuse an artifact whose headline score fell.

    Args:
        manifest: of the artifact.
        tolerance: absolute loss of the score that is accepted, in [0, 1].

    Raises:
        InvalidInput: the score after tuning is lower than before by more than the tolerance, or NaN.
    """
    score = headline(manifest.metrics)
    if score is None or score.after >= score.before - tolerance - ROUNDING:  # False for NaN
        return
    raise InvalidInput(
        f"artifact must not be worse than before tuning: {score.name} of at least {score.before:.4f} - {tolerance:g}. "
        f"Got {score.after:.4f} in {manifest.artifact_id}. Pass force=True to promote it anyway."
    )
