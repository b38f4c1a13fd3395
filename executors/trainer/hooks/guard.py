"""Scores abilities of the pretrained model that the training data does not teach."""

from __future__ import annotations

import logging

from finetuner.contract.wire import GUARD_PREFIX
from finetuner.evaluation.pairs import RECALLS, EncodedPairs, image_to_text, mean_recall, text_to_image

from .evaluation import ScoreEvaluationData
from .hook import Progress

TOLERANCE = 0.02
"""The guard's mean R@5 may fall by this much, absolute, before the log warns."""

log = logging.getLogger("finetuner")


class ScoreGuard(ScoreEvaluationData):
    """Scores the guard's pairs before and after training, and logs the difference.

    If the run's evaluation data, the target, is scored too, by an earlier hook, it logs target and guard as pairs.

    Args:
        pairs: at least one.
        scores: receives the recalls of both directions under `guard_...`.
    """

    def after_training(self, progress: Progress) -> None:
        """Score the tuned model. Warn if its mean R@5 fell by more than `TOLERANCE`."""
        super().after_training(progress)
        before, after = (mean_recall(self._scores.metrics[stage], GUARD_PREFIX) for stage in ("before", "after"))
        if text_to_image(5) in self._scores.metrics["before"]:
            old, new = (mean_recall(self._scores.metrics[stage]) for stage in ("before", "after"))
            log.info(
                "Target and guard: mean R@5 was (%.3f, %.3f) and is (%.3f, %.3f), (%+.3f, %+.3f)",
                *(old, before, new, after, new - old, after - before),
            )
        log.info("Guard: mean R@5 was %.3f and is %.3f, %+.3f", before, after, after - before)
        if before - after > TOLERANCE:
            log.warning(
                "The model forgot: the guard's mean R@5 fell by %.3f, more than %g. Mix the weights with "
                "WiSEFTCallback, train adapters with lora_rank, or lower the learning rate",
                before - after,
                TOLERANCE,
            )

    def _metrics(self, encoded: EncodedPairs) -> dict[str, float]:
        metrics = super()._metrics(encoded)
        names = [name(k) for name in (text_to_image, image_to_text) for k in RECALLS]
        return {GUARD_PREFIX + name: metrics[name] for name in names}
