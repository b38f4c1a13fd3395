"""The index folder: one lock, the documents, and one collection per artifact.

    <folder>/lock                  held while the index is open
    <folder>/documents.sqlite      content by document id
    <folder>/<hash of artifact>/   a collection

Folders are called by the hash, because an id from outside never becomes a path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from executors.indexer.collection import Collection, Hit
from executors.indexer.documents import Documents, PackedDocument, pack
from executors.indexer.folder_lock import FolderLock
from executors.indexer.vectors import artifact_of, vector_of
from finetuner.exceptions import FinetunerError, InvalidDocument, NotFound


class Index:
    """Documents and their vectors, each vector only among those of the same artifact.

    Any number of threads may search; writes queue up behind one another. What a call returned from is on
    disk. A document is written before its vectors and deleted after them, so no vector lacks its document.

    Args:
        folder: made where it is not there yet.

    Raises:
        InvalidInput: another process has the folder open.
        FinetunerServerError: a collection that the engine cannot open.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        self._collections: dict[str, Collection] = {}
        with ExitStack() as opened:
            opened.callback(FolderLock(folder).release)
            for half in folder.glob(".new-*"):  # a collection whose making was killed; nothing is in it
                shutil.rmtree(half)
            self.documents = Documents(folder / "documents.sqlite")
            opened.callback(self.documents.close)
            for description in folder.glob("*/collection.json"):
                collection = Collection(description.parent)
                opened.callback(collection.close)
                self._collections[collection.artifact] = collection
            self._opened = opened.pop_all()

    def upsert(self, documents: Sequence[Document]) -> list[InvalidDocument | None]:
        """Store documents that carry an embedding and its artifact's tag, each in the place of its id's.

        A collection is made when the first vector of its artifact arrives, and takes its dimension. Where an
        id comes twice for one artifact, the later document counts.

        Returns:
            Per document: None where it is stored, or what is wrong with it.
        """
        answers: list[InvalidDocument | None] = []
        rows: dict[str, PackedDocument] = {}
        vectors: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
        with self._writing:
            for document in documents:
                try:
                    vector, artifact, row = vector_of(document), artifact_of(document), pack(document)
                    self._check_dim(artifact, vector, vectors[artifact])
                except InvalidDocument as error:
                    answers.append(error)
                    continue
                vectors[artifact][row.id] = vector
                rows[row.id] = row
                answers.append(None)
            if rows:
                self.documents.put(rows.values())
            for artifact, new in vectors.items():
                if new:
                    dim = len(next(iter(new.values())))
                    self._collection(artifact, dim).upsert(list(new), np.stack(list(new.values())))
        return answers

    def search(self, queries: Sequence[Document], limit: int) -> list[list[Hit] | FinetunerError]:
        """Find the documents nearest to each query among those of the query's artifact.

        Args:
            queries: documents with an embedding and its artifact's tag.
            limit: most hits per query, 1 or more.

        Returns:
            Per query: its hits, best first, or what is wrong with it (InvalidDocument, or NotFound where the
            artifact has no collection).
        """
        answers: list[list[Hit] | FinetunerError] = [[] for _ in queries]
        positions: dict[str, list[int]] = defaultdict(list)
        vectors: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for position, query in enumerate(queries):
            try:
                vector, artifact = vector_of(query), artifact_of(query)
                if artifact not in self._collections:
                    raise NotFound(self._no_collection(artifact))
                self._check_dim(artifact, vector, {})
            except (InvalidDocument, NotFound) as error:
                answers[position] = error
                continue
            positions[artifact].append(position)
            vectors[artifact].append(vector)
        for artifact, places in positions.items():
            found = self._collections[artifact].search(np.stack(vectors[artifact]), limit)
            for position, hits in zip(places, found, strict=True):
                answers[position] = hits
        return answers

    def delete(self, ids: Iterable[str]) -> int:
        """Forget documents and their vectors of every artifact; return how many documents were there."""
        distinct = sorted(set(ids))
        if not distinct:
            return 0
        with self._writing:
            for collection in self._collections.values():
                collection.delete(distinct)
            return self.documents.delete(distinct)

    def counts(self) -> dict[str, int]:
        """Return the number of vectors per artifact."""
        return {artifact: len(collection) for artifact, collection in sorted(self._collections.items())}

    def status(self) -> dict[str, Any]:
        """Return `collections` (artifact, dim, count of each), `documents` (count) and `bytes` on disk."""
        collections = [
            {"artifact": artifact, "dim": collection.dim, "count": len(collection)}
            for artifact, collection in sorted(self._collections.items())
        ]
        return {
            "collections": collections,
            "documents": len(self.documents),
            "bytes": _bytes_on_disk(self._folder),
        }

    def close(self) -> None:
        """Close every file and let others open the folder. A second call does nothing."""
        with self._writing:
            self._opened.close()

    def _check_dim(self, artifact: str, vector: NDArray[np.float32], arriving: dict[str, NDArray[np.float32]]) -> None:
        if artifact in self._collections:
            dim = self._collections[artifact].dim
        else:
            dim = len(next(iter(arriving.values()), vector))
        if len(vector) != dim:
            raise InvalidDocument(
                f"embedding must have shape ({dim},), as the others of artifact {artifact!r} have. "
                f"Got {vector.shape}. Encode the document with that artifact."
            )

    def _collection(self, artifact: str, dim: int) -> Collection:
        if artifact not in self._collections:
            folder = self._folder / hashlib.sha256(artifact.encode()).hexdigest()
            collection = Collection.create(folder, artifact, dim)
            self._opened.callback(collection.close)
            self._collections[artifact] = collection
        return self._collections[artifact]

    def _no_collection(self, artifact: str) -> str:
        have = ", ".join(repr(name) for name in sorted(self._collections))
        if not have:
            return f"the index must have vectors of artifact {artifact!r}. Got an empty index. Index documents first."
        return (
            f"the index must have vectors of artifact {artifact!r}. Got vectors of {have} only. "
            f"Search with one of these, or index the documents with {artifact!r}."
        )


def _bytes_on_disk(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                # blocks, not lengths: the engine's files are longer than what is in them
                total += (Path(parent) / name).lstat().st_blocks * 512
            except FileNotFoundError:  # the engine drops a log segment while we look
                continue
    return total
