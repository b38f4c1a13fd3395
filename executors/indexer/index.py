"""The index folder: one lock, the documents, and one collection per artifact.

<folder>/lock                  held while the index is open
<folder>/documents.sqlite      content by document id
<folder>/<hash of artifact>/   a collection, see `collections_folder`
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.exceptions import FinetunerError, FinetunerServerError, InsufficientStorage
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import Collection, Engine, Filter, Hit, Point, SearchOptions
from finetuner.executors.indexer.retrieval.filters import parse_filter
from finetuner.executors.indexer.retrieval.sizes import Sizes, Trained, whole_only
from finetuner.executors.indexer.retrieval.vectors import artifact_of, check_size, join_parts, take_tower, vector_of
from finetuner.executors.indexer.storage.documents import Documents
from finetuner.executors.indexer.storage.folders import Collections, bytes_on_disk
from finetuner.executors.indexer.storage.known_fields import KnownFields
from finetuner.executors.indexer.storage.locks import FolderLock
from finetuner.executors.indexer.storage.packing import PackedDocument, pack
from finetuner.workspace.folder import ASIDE

Steps = Sequence[Callable[[Path], None]]
Versions = Mapping[str, int]  # by id of a document
Towers = Mapping[str, str]  # likewise
# Ids that one scroll reads.
PAGE = 1000
# Free bytes that a delete needs. Deleting is often the way to make room.
DELETE_FREE = 4 * 2**20


class Index:
    """Documents and their vectors, each vector only among those of the same artifact.

    Any number of threads may search. Writes run one after another, and each is on disk when its call returns.
    A document is written before its vectors and deleted after them, so no vector lacks its document.

    Args:
        folder: of the index; created if missing.
        engine: stores the vectors; the embedded engine by default.
        min_free_mb: free MiB that a write needs. The engine maps its files into memory, so a full disk would end the
            process.
        steps: run on the folder after it is locked and before any file is opened.
        dimensions: size for the vectors of new collections, see `Sizes`.
        trained: of an artifact.

    Attributes:
        documents: the contents.
        collections: the vectors.
        sizes: of the vectors in each collection.
        fields: the tag fields that filters may name.
        problems: one sentence for each part that was damaged at the opening and is set aside.
        writing: lock of all writes. Hold it to combine several writes.

    Raises:
        InvalidInput: another process has the folder open, or the vectors are in another engine.
        FinetunerServerError: the documents cannot be read, or a server does not answer.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine | None = None,
        min_free_mb: int = 256,
        steps: Steps = (),
        dimensions: int = 0,
        trained: Callable[[str], Trained] = whole_only,
    ) -> None:
        self._folder = folder
        self.min_free = min_free_mb * 2**20  # bytes
        self.writing = threading.RLock()
        with ExitStack() as opened:
            opened.callback(FolderLock(folder).release)
            for finish in steps:
                finish(folder)
            self.documents = Documents(folder / "documents.sqlite")
            opened.callback(self.documents.close)
            self.collections = Collections(folder, engine or EdgeEngine())
            opened.callback(self.collections.close)
            self.sizes = Sizes(self.collections, trained, dimensions)
            fields, lost = self.documents.fields()
            self.problems = [*self.collections.problems, *lost] + [
                f"index/{path.name} was damaged and is set aside. Remove it once the index is as you expect it."
                for path in sorted((*folder.glob(f"*.json*{ASIDE}"), *folder.glob(f".*{ASIDE}")))
            ]
            self.fields = KnownFields(fields)
            for artifact, collection in self.collections.all().items():
                self._index_fields(artifact, collection)
            self._opened = opened.pop_all()

    def upsert(self, documents: Sequence[Document], live: bool = True) -> list[FinetunerError | None]:
        """Store documents that carry an embedding and its artifact's tag, each in the place of its id's.

        A collection is made when the first vector of its artifact arrives, and takes its dimension. Where an
        id comes twice for one artifact, the later document counts.

        Args:
            documents: as they left the encoders; those of parts get their vector, see `join_parts`.
            live: whether they are for `live`; then they follow when something else goes live.

        Returns:
            Per document: None where it is stored, or what is wrong with it.

        Raises:
            InsufficientStorage: the disk is nearly full; nothing of the request is stored.
            FinetunerServerError: the disk or the engine refuses; what was stored before is still there.
        """
        answers: list[FinetunerError | None] = []
        rows: dict[str, PackedDocument] = {}
        towers: dict[str, str] = {}
        vectors: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
        with self.writing:
            for document in documents:
                try:
                    join_parts(document)
                    vector, artifact = vector_of(document), artifact_of(document)
                    tower, row = take_tower(document), pack(document)
                    self._check_dim(artifact, vector, vectors[artifact])
                except FinetunerError as error:
                    answers.append(error)
                    continue
                vectors[artifact][row.id] = vector
                rows[row.id], towers[row.id] = row, tower
                answers.append(None)
            if rows:
                with self.written(self.min_free):
                    self._know(rows.values())
                    versions = self.documents.put(rows.values(), live)
                    for artifact, new in vectors.items():
                        points = [Point(key, vector, rows[key].filterable) for key, vector in new.items()]
                        self._store(artifact, points, versions, towers)
        return answers

    def store(self, artifact: str, points: Sequence[Point], versions: Versions, towers: Towers) -> None:
        """Store vectors of known documents, with the version that they were made from.

        Args:
            artifact: the one that made the vectors.
            points: one per id; may be empty.
            versions: by id; other ids are ignored.
            towers: '' or no entry where the tower is not known.
        """
        if not points:
            return
        with self.writing, self.written(self.min_free):
            self._store(artifact, points, versions, towers)

    def search(self, queries: Sequence[Document], options: SearchOptions) -> list[list[Hit] | FinetunerError]:
        """Find the documents nearest to each query among those of the query's artifact.

        Args:
            queries: documents with an embedding and its artifact's tag, or with such parts.
            options: apply to every query.

        Returns:
            Per query: its hits, best first, or its error: InvalidDocument, NotFound for an artifact without a
            collection, or an encoder's error for a part.
        """
        answers: list[list[Hit] | FinetunerError] = [[] for _ in queries]
        positions: dict[str, list[int]] = defaultdict(list)
        vectors: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
        for position, query in enumerate(queries):
            try:
                join_parts(query)
                vector, artifact = vector_of(query), artifact_of(query)
                self.collection(artifact)
                self._check_dim(artifact, vector, {})
            except FinetunerError as error:
                answers[position] = error
                continue
            positions[artifact].append(position)
            vectors[artifact].append(vector)
        for artifact, rows in positions.items():
            found = self.collection(artifact).search(np.stack(vectors[artifact]), options)
            for position, hits in zip(rows, found, strict=True):
                answers[position] = hits
        return answers

    def filter(self, given: object) -> Filter | None:
        """Return a user's filter in the engines' form, or None if every document passes.

        Raises:
            InvalidInput: see `parse_filter`.
        """
        return parse_filter(given, self.fields)

    def find(self, artifact: str, condition: Filter | None, limit: int, offset: int = 0) -> list[str]:
        """Return the ids of an artifact's documents that pass a filter, in a stable order.

        Raises:
            NotFound: the artifact has no collection.
        """
        ids: list[str] = []
        collection, after, wanted = self.collection(artifact), None, offset + limit
        while len(ids) < wanted:
            points, after = collection.scroll(after, min(wanted - len(ids), PAGE), condition, vectors=False)
            ids += [point.id for point in points if point.id]  # a damaged file may have lost it
            if after is None:
                break
        return ids[offset:wanted]

    def delete(self, ids: Iterable[str], condition: Filter | None = None) -> int:
        """Delete documents and their vectors of every artifact. Return the number of deleted documents.

        Args:
            ids: of documents; unknown ids are ignored.
            condition: also delete documents that pass this filter.

        Raises:
            InsufficientStorage: the disk is full; nothing is deleted.
        """
        deleted = 0
        with self.writing, self.written(min(self.min_free, DELETE_FREE)):
            while condition is not None:
                found = {key for artifact in self.collections.all() for key in self.find(artifact, condition, PAGE)}
                if not found:
                    break
                deleted += self._delete(sorted(found))
            return deleted + self._delete(sorted(set(ids)))

    def take_out(self, artifact: str, ids: Sequence[str]) -> None:
        """Delete vectors of an artifact. Their documents wait for new ones.

        Raises:
            InsufficientStorage: the disk is full.
        """
        with self.writing, self.written(min(self.min_free, DELETE_FREE)):
            self.collection(artifact).delete(ids)
            self.documents.unmark(artifact, ids)

    def drop(self, artifact: str) -> None:
        """Delete an artifact's collection. The documents stay.

        Raises:
            NotFound: the artifact has no collection.
        """
        with self.writing:
            self.collection(artifact)
            self.collections.drop(artifact)
            self.documents.forget(artifact)

    def collection(self, artifact: str) -> Collection:
        """Return an artifact's vectors.

        Raises:
            NotFound: no such collection; the message lists all artifacts with one.
        """
        return self.collections.named(artifact)

    def counts(self) -> dict[str, int]:
        """Return the number of vectors per artifact."""
        return {artifact: len(collection) for artifact, collection in self.collections.all().items()}

    def status(self) -> dict[str, Any]:
        """Return `collections` (artifact, dim, count, indexed of each), `documents`, `bytes` and `engine`.

        `indexed` counts the vectors in the graph. `bytes` is the size of the index on this machine's disk.
        """
        return {
            "collections": [
                {"artifact": artifact, "dim": collection.dim, "count": graph.vectors, "indexed": graph.indexed}
                for artifact, collection in self.collections.all().items()
                for graph in [collection.graph()]
            ],
            "documents": len(self.documents),
            "bytes": bytes_on_disk(self._folder),
            "engine": self.collections.engine.name,
        }

    def close(self) -> None:
        """Close every file and release the folder. A second call does nothing."""
        with self.writing:
            self._opened.close()

    def _delete(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        for collection in self.collections.all().values():
            collection.delete(ids)
        return self.documents.delete(ids)

    def _store(self, artifact: str, points: Sequence[Point], versions: Versions, towers: Towers) -> None:
        if artifact not in self.collections:
            self.collections.create(artifact, len(points[0].vector), self.fields.indexed())
        self.collections[artifact].upsert(points)
        stored = {point.id: versions[point.id] for point in points}
        self.documents.mark(artifact, stored)
        self.documents.towers.mark(artifact, stored, towers)

    def _know(self, rows: Iterable[PackedDocument]) -> None:
        """Index new fields in every collection, then record them: a field that an engine refuses is not recorded."""
        new = self.fields.new(field for row in rows for field in row.fields)
        if new:
            for collection in self.collections.all().values():
                for path, kind in self.fields.indexed(new).items():
                    collection.index_field(path, kind)
            self.documents.add_fields(new)
            self.fields.add(new)

    def _index_fields(self, artifact: str, collection: Collection) -> None:
        """Index the fields of a collection that was opened. Filters work without an index, too, only slower."""
        for path, kind in self.fields.indexed().items():
            try:
                collection.index_field(path, kind)
            except (FinetunerError, ValueError) as error:
                self.problems.append(f"filters on {path!r} have no index in the collection of {artifact!r}: {error}")

    @contextmanager
    def written(self, least: int) -> Iterator[None]:
        """Check that at least `least` bytes are free, and translate errors of the disk during the block."""
        free = shutil.disk_usage(self._folder).free
        if free < least:
            raise InsufficientStorage(
                f"the disk of the index must have {least >> 20} MiB free for a write. Got {free >> 20}. "
                "The request changed nothing. Make room, drop a collection, or lower `min_free_mb`."
            )
        try:
            yield
        except FinetunerError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise FinetunerServerError(
                f"the index must be able to write to {str(self._folder)!r}. Got: {error}. "
                "The request is not acknowledged. Repair the disk and send it again. Earlier documents are safe."
            ) from error

    def _check_dim(self, artifact: str, vector: NDArray[np.float32], arriving: dict[str, NDArray[np.float32]]) -> None:
        first = next(iter(arriving.values()), vector)
        dim = self.collections[artifact].dim if artifact in self.collections else len(first)
        check_size(vector, dim, artifact)
