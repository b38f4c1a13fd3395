"""Writes the results of a lane into documents: an embedding with the model's id, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetuner.contract.dimensions import checked_dimensions, shortened
from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, TOKENS_TAG, mark_error
from finetuner.executors.room.room import MeasuredExecutor

from .lane import FindRunner, Lane
from .metrics import LaneMetrics
from .runner import Runner

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document


class Answerer:
    """Encodes the documents of a request with a lane, writes the results into them, and counts them.

    Args:
        executor: executor that serves the endpoints.
        lane: lane of that executor.
        metrics: metrics of that lane.
    """

    def __init__(self, executor: MeasuredExecutor, lane: Lane, metrics: LaneMetrics) -> None:
        self._executor = executor
        self._lane = lane
        self._metrics = metrics

    async def encode(
        self,
        endpoint: str,
        documents: Sequence[Document],
        find_runner: FindRunner,
        *,
        count: bool = False,
        dimensions: object = None,
    ) -> None:
        """Set `embedding`, (dim,) or (dimensions,) float32, and the `finetuner_artifact` tag, or `finetuner_error`.

        Args:
            endpoint: name for the metrics and the log.
            documents: documents for the runner's tower. The error tag of an earlier attempt is removed.
            find_runner: returns the model, once it is loaded. Its exception is the error of each document.
            count: whether each text gets the `finetuner_tokens` tag.
            dimensions: size of the vectors, unchecked; None is the model's own. The lane's cache holds whole vectors.
        """
        tokens: dict[int, int] = {}
        found: list[Runner] = []

        async def remembered() -> Runner:
            found.append(await find_runner())
            if dimensions is not None:
                checked_dimensions(dimensions, found[0])
            return found[0]

        results: list[np.ndarray | Exception]
        try:
            with self._executor.measured(endpoint):
                results = await self._lane.encode(documents, remembered, tokens if count else None)
            if dimensions is not None and found:
                results = _cut(results, checked_dimensions(dimensions, found[0]))
        except Exception as error:
            results = [error] * len(documents)
        self._write(endpoint, documents, results, found)
        for position, number in tokens.items():
            if not isinstance(results[position], Exception):
                documents[position].tags[TOKENS_TAG] = number

    def _write(
        self,
        endpoint: str,
        documents: Sequence[Document],
        results: Sequence[np.ndarray | Exception],
        found: Sequence[Runner],
    ) -> None:
        reasons: dict[int, Exception] = {}
        answered = 0
        for document, result in zip(documents, results, strict=True):
            if ERROR_TAG in document.tags:
                del document.tags[ERROR_TAG]
            if isinstance(result, Exception):
                if id(result) not in reasons:  # one failure of many documents is one line in the log
                    reasons[id(result)] = self._executor.failed(endpoint, result)
                mark_error(document, reasons[id(result)])
                self._metrics.refused(reasons[id(result)])
            else:
                document.embedding = result
                document.tags[ARTIFACT_TAG] = found[0].model_id
                answered += 1
        if answered:
            self._metrics.answered(found[0].model_id, answered)
        self._executor.count_documents(endpoint, answered, len(documents) - answered)


def _cut(results: Sequence[np.ndarray | Exception], dim: int) -> list[np.ndarray | Exception]:
    return [result if isinstance(result, Exception) else shortened(result, dim) for result in results]
