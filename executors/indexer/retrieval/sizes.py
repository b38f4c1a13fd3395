"""Short vectors: the first numbers of each vector that a collection keeps, of a model that was trained for it.

Vectors are cut where a request or a re-index enters, parts and examples one by one. Behind that all have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from docarray import Document

from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.registry import ARTIFACT_ID
from finetuner.contract.dimensions import shortened
from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.exceptions import FinetunerError
from finetuner.executors.indexer.storage.folders import Collections
from finetuner.workspace.folder import Workspace

MAX_KNOWN = 1024  # artifacts; names come from requests


@dataclass(frozen=True, slots=True)
class Trained:
    """The sizes of an artifact's vectors."""

    whole: int
    short: tuple[int, ...]
    """From the largest to the smallest; () where it was trained for whole vectors alone."""


WHOLE = Trained(0, ())


def whole_only(_artifact: str) -> Trained:
    """Return the sizes where nothing is known of artifacts."""
    return WHOLE


class TrainedSizes:
    """Returns the sizes for which an artifact was trained, from its manifest. Threads may share it.

    Args:
        workspace: with the artifacts.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._artifacts = workspace.artifacts
        self._known: dict[str, Trained] = {}

    def __call__(self, artifact: str) -> Trained:
        """Return the sizes of an artifact; no short ones of a backbone, or of an artifact that is not here."""
        if artifact in self._known:
            return self._known[artifact]
        if not ARTIFACT_ID.fullmatch(artifact):
            return WHOLE
        try:
            manifest = read_manifest(self._artifacts / artifact)
        except (FinetunerError, OSError):  # it may arrive later, and the encoders report damage
            return WHOLE
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        return self._known.setdefault(artifact, Trained(manifest.output_dim, manifest.short_dims))


class Sizes:
    """The size of the vectors in each artifact's collection. Threads may share it.

    Args:
        collections: an existing one keeps its size.
        trained: of an artifact.
        wanted: size for new collections of the artifacts that were trained for it; 0 and others: whole vectors.
    """

    def __init__(self, collections: Collections, trained: Callable[[str], Trained], wanted: int) -> None:
        self._collections = collections
        self._trained = trained
        self._wanted = wanted

    def cut(self, documents: Iterable[Document]) -> None:
        """Shorten the embedding of each document, and of each of its chunks, to that of its artifact's collection.

        An embedding that is no whole one of its artifact stays as it is; `Index` checks it.

        Args:
            documents: from outside; changed in place.
        """
        for document in documents:
            for part in (document, *document.chunks):
                artifact, vector = part.tags.get(ARTIFACT_TAG), part.embedding
                if not isinstance(artifact, str) or vector is None or not (size := self.of(artifact)):
                    continue
                if isinstance(vector, np.ndarray) and vector.shape == (self._trained(artifact).whole,):
                    part.embedding = shortened(vector, size)

    def of(self, artifact: str) -> int:
        """Return the size of the short vectors of an artifact's collection, or of a new one. 0 where they are whole."""
        short = self._trained(artifact).short
        if not short:
            return 0
        size = self._collections[artifact].dim if artifact in self._collections else self._wanted
        return size if size in short else 0

    def problems(self) -> list[str]:
        """Return one sentence for each collection with other vectors than are wanted."""
        return [
            f"`dimensions` is {self._wanted}, and the vectors of {artifact!r} have {collection.dim} numbers: its model "
            "was not trained for that size, or its collection is older than the setting."
            for artifact, collection in self._collections.all().items()
            if self._wanted and collection.dim != self._wanted
        ]
