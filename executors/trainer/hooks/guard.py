"""A hook that scores what the pretrained model could do and the training data does not teach."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from finetuner.clip import Clip
from finetuner.evaluation import RECALLS, evaluate_pairs, image_to_text, mean_recall, text_to_image
from finetuner.pairs import Pair

from .evaluation import Scores
from .hook import Hook, Progress

PREFIX = "guard_"
TOLERANCE = 0.02
"""By so much, absolute, may the guard's mean R@5 fall before the log warns."""

log = logging.getLogger("finetuner")


class ScoreGuard(Hook):
    """Scores the guard's pairs before and after, and says how much was forgotten.

    Args:
        pairs: at least one.
        scores: get the recalls of both directions under `guard_...`.
    """

    def __init__(self, pairs: Sequence[Pair], scores: Scores) -> None:
        self._pairs = pairs
        self._scores = scores

    def before_training(self, progress: Progress) -> None:
        """Score the pretrained model, once."""
        if not progress.step:
            self._score("before", progress)

    def after_training(self, progress: Progress) -> None:
        """Score the tuned model; warn where it has forgotten more than `TOLERANCE`."""
        self._score("after", progress)
        before, after = (mean_recall(self._scores.metrics[stage], PREFIX) for stage in ("before", "after"))
        log.info("Guard: mean R@5 was %.3f and is %.3f, %+.3f", before, after, after - before)
        if before - after > TOLERANCE:
            log.warning(
                "The model forgot: the guard's mean R@5 fell by %.3f, more than %g. Mix the weights with "
                "WiSEFTCallback, train adapters with lora_rank, or lower the learning rate",
                before - after,
                TOLERANCE,
            )

    def _score(self, stage: str, progress: Progress) -> None:
        assert isinstance(progress.model, Clip)
        metrics = evaluate_pairs(progress.model, self._pairs)
        names = [name(k) for name in (text_to_image, image_to_text) for k in RECALLS]
        self._scores.add(stage, {PREFIX + name: metrics[name] for name in names})
