"""Hooks that score the model: on the run's evaluation data, and for evaluation callbacks."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetuner.artifacts.calibrations import CALIBRATION_FILE
from finetuner.documents.pairs import Pair
from finetuner.evaluation.calibration_fit import fit_calibration
from finetuner.evaluation.codes import score_codes
from finetuner.evaluation.pairs import EncodedPairs, encode_pairs, score, score_short
from finetuner.evaluation.search import SearchData, evaluate_search
from finetuner.models.clip import Clip
from finetuner.workspace.folder import write_atomically

from ..run_folder import RunFolder
from .hook import Hook, Progress

log = logging.getLogger("finetuner")


class Scores:
    """The scores and example results of a run, written to its folder as soon as they are known.

    Args:
        folder: of the run; receives scores.json, examples.json and evaluations.jsonl.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.metrics: dict[str, dict[str, float]] = _from_before(folder.read("scores"))
        """{'before': {name: value}, 'after': {...}}"""
        self.examples: dict[str, dict[str, Any]] = _from_before(folder.read("examples"))
        """{'before': {query: [match, ...]}, 'after': {...}}"""
        self._during: tuple[int, dict[str, float]] = (0, {})

    def at(self, step: int) -> dict[str, float]:
        """Return the metrics of the evaluations at a step, which must be the newest with any; {} otherwise."""
        return dict(self._during[1]) if self._during[0] == step else {}

    def add(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Write and log the scores of a stage, 'before' or 'after'."""
        log.info("%s fine-tuning:", stage)
        _log_metrics(metrics)
        self.metrics.setdefault(stage, {}).update(metrics)
        self._folder.write("scores", self.metrics)

    def add_examples(self, stage: str, examples: Mapping[str, Any], prefix: str) -> None:
        """Write the matches of queries. If another callback has the same query, it gets the prefix of its metrics."""
        if not examples:
            return
        known = self.examples.setdefault(stage, {})
        known.update(
            {query if query not in known else f"{prefix}: {query}": found for query, found in examples.items()}
        )
        self._folder.write("examples", self.examples)

    def add_during(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Write and log the metrics of an evaluation while the run trains."""
        self._during = (progress.step, self.at(progress.step) | dict(metrics))
        log.info("after epoch %d, step %d:", progress.epoch, progress.step)
        _log_metrics(metrics)
        with open(self._folder.evaluations, "a") as lines:
            lines.write(json.dumps({"step": progress.step, "epoch": progress.epoch, "metrics": dict(metrics)}) + "\n")


def _from_before(stages: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the results from before training, which a resumed run keeps."""
    return {stage: found for stage, found in (stages or {}).items() if stage == "before"}


def _log_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        log.debug("Metric: '%s' Value: %.5f", name, value)


class ScoreEvaluationData(Hook):
    """Scores the model on the run's own evaluation data, before and after training.

    Args:
        pairs: at least one.
        scores: receives the metrics.
        dims: sizes of short vectors that the run trains, which are scored too.
        codes: 'int8' and 'binary', those that the run trains, likewise.
    """

    def __init__(
        self, pairs: Sequence[Pair], scores: Scores, dims: Sequence[int] = (), codes: Sequence[str] = ()
    ) -> None:
        self._pairs = pairs
        self._scores = scores
        self._dims = dims
        self._codes = codes

    def before_training(self, progress: Progress) -> None:
        """Score the pretrained model, once."""
        if not progress.step:
            self._score("before", progress)

    def after_training(self, progress: Progress) -> None:
        """Score the tuned model."""
        self._score("after", progress)

    def _score(self, stage: str, progress: Progress) -> None:
        assert isinstance(progress.model, Clip)
        encoded = encode_pairs(progress.model, self._pairs)
        self._scores.add(stage, self._metrics(encoded))
        if stage == "after":
            self._keep(encoded)

    def _metrics(self, encoded: EncodedPairs) -> dict[str, float]:
        return score(encoded) | score_short(encoded, self._dims) | score_codes(encoded, self._codes)

    def _keep(self, encoded: EncodedPairs) -> None:
        """Do more with what the published model has encoded."""


class CalibrateScores(ScoreEvaluationData):
    """Scores the evaluation data, and fits the calibration of the published model on it.

    Args:
        pairs: at least one.
        scores: receives the metrics.
        dims, codes: see `ScoreEvaluationData`.
        artifact: id of the artifact to publish.
        folder: of the run; receives the calibration, see `calibration_file`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        scores: Scores,
        dims: Sequence[int],
        artifact: str,
        folder: RunFolder,
        codes: Sequence[str] = (),
    ) -> None:
        super().__init__(pairs, scores, dims, codes)
        self._artifact = artifact
        self._folder = folder

    def _keep(self, encoded: EncodedPairs) -> None:
        calibration = fit_calibration(encoded, self._artifact)
        if calibration is None:
            log.info("No calibration: too few evaluation data, or scores too close. A search refuses min_probability")
        else:
            write_atomically(self._folder.path / CALIBRATION_FILE, calibration.to_json().encode())


def calibration_file(folder: RunFolder) -> dict[str, Path]:
    """Return the calibration of a run for the artifact, by path inside it; {} without one."""
    file = folder.path / CALIBRATION_FILE
    return {CALIBRATION_FILE: file} if file.exists() else {}


class EvaluateSearch(Hook):
    """An EvaluationCallback: scores a search before training, after each epoch, and with the published weights.

    Args:
        data: queries and index.
        prefix: of the names of its metrics.
        scores: receives metrics and examples.
    """

    def __init__(self, data: SearchData, prefix: str, scores: Scores) -> None:
        self._data = data
        self._prefix = prefix
        self._scores = scores

    def before_training(self, progress: Progress) -> None:
        """Score the pretrained model and write examples, once."""
        if not progress.step:
            self._score_stage("before", progress)

    def after_step(self, progress: Progress) -> None:
        """Score at each interval."""
        every = self._data.options.steps_per_interval
        if every is not None and progress.step % every == 0:
            progress.model.network.eval()
            self._score(progress)
            progress.model.network.train()

    def after_epoch(self, progress: Progress) -> None:
        """Score after the epoch, so that later hooks can monitor it."""
        progress.values |= self._score(progress)

    def after_training(self, progress: Progress) -> None:
        """Score the tuned model and write examples."""
        self._score_stage("after", progress)

    def _score_stage(self, stage: str, progress: Progress) -> None:
        metrics, examples = evaluate_search(progress.model, self._data)
        self._scores.add(stage, self._named(metrics))
        self._scores.add_examples(stage, examples, self._prefix.rstrip("_"))

    def _score(self, progress: Progress) -> dict[str, float]:
        metrics = self._named(evaluate_search(progress.model, self._data, gather=False)[0])
        self._scores.add_during(progress, metrics)
        return metrics

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self._prefix + name: value for name, value in metrics.items()}
