"""Probabilities of matches, and searches that leave out the unlikely ones.

The calibration of an artifact makes a probability of a cosine, for one text or one image as the query, and documents
that one tower has encoded. A higher cosine has a higher probability, so the cut is a lowest cosine: engines, filters,
groups and cursors work as without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from docarray import Document
from docarray.proto.docarray_pb2 import DocumentProto
from numpy.typing import NDArray

from finetuner.artifacts.calibrations import load_calibration
from finetuner.contract.wire import ERROR_TAG
from finetuner.evaluation.calibration import KINDS, Calibration, Line
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.indexer.engines.engine import Collection, Hit, SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.retrieval.vectors import artifact_of, vector_of
from finetuner.workspace.folder import Workspace

PROBABILITY = "probability"
# Matches that are read where documents without probability lie between the others.
MAX_DEPTH = 20_000
# Nearest documents that are looked at where nothing is likely enough.
PROBED = 20
# A number of documents is counted again after so many seconds: a count costs more than the rest.
COUNTED_SECONDS = 10.0
MAX_LOADED = 64
ROUNDING = 1e-6

Vector = NDArray[np.float32]
Lines = Mapping[str, Line]  # by the tower of the documents


class Probabilities:
    """The calibrations of the artifacts, and the sizes of their collections. Threads may share it.

    Args:
        workspace: with the artifacts.
        index: of the documents.
    """

    def __init__(self, workspace: Workspace, index: Index) -> None:
        self._workspace = workspace
        self._index = index
        self._loaded: dict[str, Calibration | FinetunerError | None] = {}
        self._counts: dict[str, tuple[float, int]] = {}

    def of(self, artifact: str, kind: str, vector: Vector, hits: Sequence[Hit]) -> dict[str, float]:
        """Return the probability of each hit that has one, by id.

        Args:
            artifact: whose collection was searched.
            kind: tower that encoded the query; '' where it is no single text or image.
            vector: (dim,) float32, L2-normalised, of the query.
            hits: of the search.
        """
        calibration = self._calibration(artifact)
        if not isinstance(calibration, Calibration) or not hits or self._index.sizes.of(artifact):
            return {}
        return self._of(artifact, self._lines(calibration, kind, vector), hits)

    def show(self, query: Document, kind: str, hits: Sequence[Hit], matches: Iterable[DocumentProto]) -> None:
        """Write its probability into the scores of each match of a query that has one.

        Args:
            query: as it was searched with, or with its error.
            kind, hits: as for `of`.
            matches: of the hits.
        """
        if not kind or ERROR_TAG in query.tags or not self._calibration(artifact := artifact_of(query)):
            return
        known = self.of(artifact, kind, vector_of(query), hits)
        for match in matches:
            if match.id in known:
                match.scores[PROBABILITY].value = known[match.id]

    def cut(self, collection: Collection, artifact: str, kind: str, vector: Vector, lowest: float) -> Collection:
        """Return a collection whose searches with this query find only documents that are at least so likely.

        Args:
            collection: of the artifact.
            artifact, kind, vector: as for `of`.
            lowest: probability, 0 to 1.

        Raises:
            InvalidInput: the query or the artifact has no probabilities.
            CorruptedArtifact: the calibration is damaged, or of another model.
        """
        if not kind:
            raise InvalidInput(
                "min_probability must come with a query of one text or one image, as the calibration was made for. Got "
                "parts, examples or a vector. Use score_threshold, or leave it out."
            )
        calibration = self._calibration(artifact)
        if isinstance(calibration, FinetunerError):
            raise calibration
        if calibration is None:
            raise InvalidInput(
                f"min_probability must come with an artifact that has a calibration. Got {artifact!r}, which has none. "
                "Tune it with eval_data, search with another artifact, or use score_threshold."
            )
        if size := self._index.sizes.of(artifact):
            raise InvalidInput(
                f"min_probability must come with whole vectors, as the calibration was made for. Got a collection of "
                f"{artifact!r} with the first {size} numbers. Use score_threshold, or leave it out."
            )
        lines = self._lines(calibration, kind, vector)
        if not lines:
            raise InvalidInput(
                f"min_probability must have a calibration for queries that are {KINDS.get(kind, kind)}s. Artifact "
                f"{artifact!r} has: {_described(calibration)}. Give its run more evaluation data, or leave it out."
            )
        return cast("Collection", _Cut(self, collection, artifact, lines, lowest))

    def likely(self, artifact: str, lines: Lines, hits: Sequence[Hit], lowest: float) -> list[Hit]:
        """Return the hits whose probability is at least `lowest`, in their order."""
        known = self._of(artifact, lines, hits)
        return [hit for hit in hits if known.get(hit.id, -1.0) >= lowest]

    def _of(self, artifact: str, lines: Lines, hits: Sequence[Hit]) -> dict[str, float]:
        towers = self._index.documents.towers.of(artifact, [hit.id for hit in hits])
        found: dict[str, float] = {}
        for tower, line in lines.items():
            mine = [hit for hit in hits if towers.get(hit.id) == tower]
            values = line.probabilities([hit.score for hit in mine]).tolist()
            found |= {hit.id: value for hit, value in zip(mine, values, strict=True)}
        return found

    def _lines(self, calibration: Calibration, kind: str, vector: Vector) -> dict[str, Line]:
        return calibration.query(kind, vector, self._count(calibration.artifact))

    def _calibration(self, artifact: str) -> Calibration | FinetunerError | None:
        if artifact in self._loaded:
            return self._loaded[artifact]
        try:
            found: Calibration | FinetunerError | None = load_calibration(self._workspace, artifact)
        except FinetunerError as error:
            found = error
        if found is not None:  # an artifact may arrive later
            if len(self._loaded) >= MAX_LOADED:
                self._loaded.clear()
            self._loaded[artifact] = found
        return found

    def _count(self, artifact: str) -> int:
        until, count = self._counts.get(artifact, (0.0, 0))
        if time.monotonic() >= until:
            count = self._index.collection(artifact).graph().vectors
            self._counts[artifact] = time.monotonic() + COUNTED_SECONDS, count
        return count


class _Cut:
    """A collection for one query. All but `search` is the collection's own."""

    def __init__(
        self, probabilities: Probabilities, collection: Collection, artifact: str, lines: Lines, lowest: float
    ) -> None:
        self._probabilities = probabilities
        self._collection = collection
        self._artifact = artifact
        self._lines = lines
        self._lowest = lowest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def search(self, vectors: Vector, options: SearchOptions) -> list[list[Hit]]:
        """As `Collection.search`, for the one query, without documents that are less likely or have no probability.

        Raises:
            InvalidInput: none of the nearest documents has a probability.
        """
        least = min(line.lowest_cosine(self._lowest) for line in self._lines.values()) - ROUNDING
        if options.score_threshold is not None:
            least = max(least, options.score_threshold)
        wanted = depth = options.offset + options.limit
        while least <= 1:
            asked = replace(options, limit=depth, offset=0, score_threshold=max(least, -1.0))
            found = self._collection.search(vectors, asked)[0]
            kept = self._probabilities.likely(self._artifact, self._lines, found, self._lowest)
            if kept and (len(kept) >= wanted or len(found) < depth or depth >= MAX_DEPTH):
                return [kept[options.offset : wanted]]
            if len(found) < depth or depth >= MAX_DEPTH:
                break
            depth = min(4 * depth, MAX_DEPTH)
        self._check(vectors, options)
        return [[]]

    def _check(self, vectors: Vector, options: SearchOptions) -> None:
        """Refuse an empty answer that says nothing: nothing near the query has a probability."""
        near = self._collection.search(vectors, replace(options, limit=PROBED, offset=0, score_threshold=None))[0]
        if near and not self._probabilities.likely(self._artifact, self._lines, near, 0.0):
            raise InvalidInput(
                f"min_probability must have a calibration for the documents: artifact {self._artifact!r} has one for "
                f"documents that are {' and '.join(f'{KINDS[tower]}s' for tower in self._lines)}. Got others, such as "
                f"{near[0].id!r:.80}: of another kind, with parts, or indexed by an earlier version. Leave it out."
            )


def _described(calibration: Calibration) -> str:
    return ", ".join(f"{KINDS[asked]} to {KINDS[tower]}" for asked, tower in calibration.directions) or "none"
