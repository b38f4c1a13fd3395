"""Mixes tuned weights with the initial ones: WiSE-FT (Wortsman et al., arXiv:2109.01903)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs, mean_recall
from finetuner.models.clip import Clip
from finetuner.workspace.folder import write_atomically

from ..run_folder import RunFolder
from .evaluation import Scores
from .guard import TOLERANCE
from .hook import Hook, Progress
from .weights import Weights, copied_weights, write_checkpoint

METRIC = "mean_recall_at_5"
AREA = "guard_area"
CURVE_FILE, TUNED_FOLDER = "wise_ft.json", "tuned"

log = logging.getLogger("finetuner")


def interpolated(pretrained: Weights, tuned: Weights, alpha: float) -> Weights:
    """Return (1 - alpha) * pretrained + alpha * tuned, entry by entry.

    Args:
        pretrained: floating point, any shape. Other entries (counters, positions) come from `tuned`.
        tuned: the same names and shapes.
        alpha: in [0, 1]; 0 gives exactly `pretrained`, 1 exactly `tuned`.
    """
    if alpha == 0:
        return {name: value if value.is_floating_point() else tuned[name] for name, value in pretrained.items()}
    if alpha == 1:
        return tuned
    return {name: _mixed(pretrained[name], value, alpha) for name, value in tuned.items()}


def _mixed(pretrained: Tensor, tuned: Tensor, alpha: float) -> Tensor:
    if not tuned.is_floating_point() or torch.equal(pretrained, tuned):  # a frozen tower stays the same bit by bit
        return tuned
    return (1 - alpha) * pretrained + alpha * tuned


class MixWeights(Hook):
    """Publishes one mix.

    Args:
        alpha: in [0, 1], share of the tuned weights.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._pretrained: Weights = {}

    def before_training(self, progress: Progress) -> None:
        """Copy the initial weights."""
        self._pretrained = copied_weights(progress.model.network)

    def choose_weights(self, progress: Progress) -> None:
        """Load the mix into the network."""
        self._mix(progress, copied_weights(progress.model.network), self._alpha)
        log.info("WiSE-FT: %g of the weights are tuned, %g pretrained", self._alpha, 1 - self._alpha)

    def _mix(self, progress: Progress, tuned: Weights, alpha: float) -> None:
        progress.model.network.load_state_dict(interpolated(self._pretrained, tuned, alpha))


@dataclass(frozen=True)
class Point:
    """One mix and its recall."""

    alpha: float
    """Share of the tuned weights, in [0, 1]."""
    recall: float
    """R@5 on the evaluation data, mean of both directions, in [0, 1]."""


def best_point(curve: Sequence[Point], guard: Sequence[Point] = ()) -> Point:
    """Return the point with the highest recall; among equals, the one nearest to the pretrained model.

    Args:
        curve: of the target, from the initial model on.
        guard: of the same mixes. A mix may score it lower than the initial model by TOLERANCE; empty for any.
    """
    kept = {point.alpha for point in guard if point.recall >= guard[0].recall - TOLERANCE}
    allowed = [point for point in curve if not guard or point.alpha in kept]
    return max(allowed, key=lambda point: (point.recall, -point.alpha))


def reached_area(points: Sequence[tuple[float, float]]) -> float:
    """Return the area of all (target, guard) that some mix reaches or exceeds in both scores, in [0, 1].

    The curve of one mix is its rectangle, target * guard. A curve that bends outwards has more: a mix that keeps the
    guard's score while the target's rises.

    Args:
        points: (target, guard) of each mix, in [0, 1].
    """
    area = highest = 0.0
    for target, guard in sorted(points, reverse=True):  # strips from the highest target on: each adds what it is higher
        area += target * max(guard - highest, 0.0)
        highest = max(highest, guard)
    return area


class SweepMixes(MixWeights):
    """Scores many mixes and publishes the best. Keeps the curve and the tuned weights, see `kept_files`.

    With a guard, it scores the guard for each mix too, and adds the area under the curve of both scores to the metrics
    after training, as `guard_area`. Only mixes that keep the guard's score within TOLERANCE are published.

    Args:
        alphas: in [0, 1], at least one; 0 and 1 are always scored.
        pairs: of the evaluation data, at least one.
        folder: of the run.
        guard: pairs of the guard; empty for none.
        scores: of the run, with a guard.
    """

    def __init__(
        self,
        alphas: Sequence[float],
        pairs: Sequence[Pair],
        folder: RunFolder,
        guard: Sequence[Pair] = (),
        scores: Scores | None = None,
    ) -> None:
        super().__init__(alpha=1)
        self._alphas = sorted({0.0, *alphas, 1.0})
        self._pairs = pairs
        self._folder = folder
        self._guard = guard
        self._scores = scores

    def choose_weights(self, progress: Progress) -> None:
        """Write the tuned model, score every mix, and load the best."""
        assert isinstance(progress.model, Clip)
        write_checkpoint(progress.model, self._folder.checkpoints / TUNED_FOLDER)
        tuned = copied_weights(progress.model.network)
        curve, guard = [], []
        for alpha in self._alphas:
            self._mix(progress, tuned, alpha)
            curve.append(Point(alpha, mean_recall(evaluate_pairs(progress.model, self._pairs))))
            log.info("WiSE-FT: alpha %g, %s %.5f", alpha, METRIC, curve[-1].recall)
            if self._guard:
                guard.append(Point(alpha, mean_recall(evaluate_pairs(progress.model, self._guard))))
                log.info("WiSE-FT: alpha %g, the guard's %s %.5f", alpha, METRIC, guard[-1].recall)
        best = best_point(curve, guard)
        self._mix(progress, tuned, best.alpha)
        described: dict[str, Any] = {
            "metric": METRIC,
            "alpha": best.alpha,
            "curve": [[point.alpha, point.recall] for point in curve],
        }
        if guard:
            area = reached_area([(mix.recall, kept.recall) for mix, kept in zip(curve, guard, strict=True)])
            described |= {"guard_curve": [[point.alpha, point.recall] for point in guard], AREA: area}
            log.info("WiSE-FT: area under the curve of target and guard %.5f", area)
            if self._scores is not None:
                self._scores.add("after", {AREA: area})
        write_atomically(self._folder.path / CURVE_FILE, json.dumps(described).encode())
        log.info("WiSE-FT: alpha %g is the best of %d and is published", best.alpha, len(curve))


def kept_files(folder: RunFolder) -> dict[str, Path]:
    """Return the files of a sweep for the artifact, by path inside it: curve and tuned model. {} without a sweep.

    The other end of the curve is the artifact's parent. From both, every mix can be recomputed.
    """
    kept = {CURVE_FILE: folder.path / CURVE_FILE, f"ends/{TUNED_FOLDER}": folder.checkpoints / TUNED_FOLDER}
    return kept if kept[CURVE_FILE].exists() else {}
