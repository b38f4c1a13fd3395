"""The index folder: one lock, the documents, and one collection per artifact.

<folder>/lock                  held while the index is open
<folder>/documents.sqlite      content by document id
<folder>/<hash of artifact>/   a collection, see `collections_folder`
"""

from __future__ import annotations

import os
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

from executors.indexer.engines.edge import EdgeEngine
from executors.indexer.engines.engine import Collection, Engine, Filter, Hit, Point, SearchOptions
from executors.indexer.retrieval.filters import parse_filter
from executors.indexer.retrieval.vectors import artifact_of, join_parts, vector_of
from executors.indexer.storage.documents import Documents
from executors.indexer.storage.folders import Collections
from executors.indexer.storage.known_fields import KnownFields
from executors.indexer.storage.locks import FolderLock
from executors.indexer.storage.packing import PackedDocument, pack
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidDocument, NotFound, ResourceExhausted

Before = Sequence[Callable[[Path], None]]
# Documents whose ids a filter's answer is read in.
PAGE = 1000
# Bytes that must be free to delete something, which often is how room is made.
DELETE_FREE = 4 * 2**20


class Index:
    """Documents and their vectors, each vector only among those of the same artifact.

    Any number of threads may search; writes queue up behind one another. What a call returned from is on
    disk. A document is written before its vectors and deleted after them, so no vector lacks its document.

    Args:
        folder: made where it is not there yet.
        engine: keeps the vectors; by default the embedded one.
        min_free_mb: MiB that must be free on the disk for a write. The engine writes through memory, where a full
            disk ends the process.
        before: what is done to the folder once it is locked, before anything is opened.

    Attributes:
        documents: the contents.
        collections: the vectors.
        fields: what filters may name.
        writing: held while something is written; whoever holds it may write several things.

    Raises:
        InvalidInput: another process has the folder open, or another engine has its vectors.
        FinetunerServerError: a collection that the engine cannot open.
    """

    def __init__(self, folder: Path, engine: Engine | None = None, min_free_mb: int = 256, before: Before = ()) -> None:
        self._folder = folder
        self._min_free = min_free_mb * 2**20
        self.writing = threading.RLock()
        with ExitStack() as opened:
            opened.callback(FolderLock(folder).release)
            for finish in before:
                finish(folder)
            self.documents = Documents(folder / "documents.sqlite")
            opened.callback(self.documents.close)
            self.collections = Collections(folder, engine or EdgeEngine())
            opened.callback(self.collections.close)
            self.fields = KnownFields(self.documents.fields())
            for collection in self.collections.all().values():
                self._index_fields(collection)
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
            ResourceExhausted: the disk is nearly full; nothing of the request is stored.
            FinetunerServerError: the disk or the engine refuses; what was stored before is still there.
        """
        answers: list[FinetunerError | None] = []
        rows: dict[str, PackedDocument] = {}
        vectors: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
        with self.writing:
            for document in documents:
                try:
                    join_parts(document)
                    vector, artifact, row = vector_of(document), artifact_of(document), pack(document)
                    self._check_dim(artifact, vector, vectors[artifact])
                except FinetunerError as error:
                    answers.append(error)
                    continue
                vectors[artifact][row.id] = vector
                rows[row.id] = row
                answers.append(None)
            if rows:
                with self._written(self._min_free):
                    self._know(rows.values())
                    versions = self.documents.put(rows.values(), live)
                    for artifact, new in vectors.items():
                        points = [Point(key, vector, rows[key].filterable) for key, vector in new.items()]
                        self._store(artifact, points, versions)
        return answers

    def store(self, artifact: str, points: Sequence[Point], versions: Mapping[str, int]) -> None:
        """Store vectors of documents that are there, and remember of which version they are.

        Args:
            artifact: that made them.
            points: one per id; none is fine.
            versions: by id; those of other ids are passed over.
        """
        if not points:
            return
        with self.writing, self._written(self._min_free):
            self._store(artifact, points, versions)

    def search(self, queries: Sequence[Document], options: SearchOptions) -> list[list[Hit] | FinetunerError]:
        """Find the documents nearest to each query among those of the query's artifact.

        Args:
            queries: documents with an embedding and its artifact's tag, or of such parts.
            options: what is asked of all of them.

        Returns:
            Per query: its hits, best first, or what is wrong with it: InvalidDocument, NotFound where the artifact has
            no collection, or what an encoder found wrong with a part.
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
        for artifact, places in positions.items():
            found = self.collection(artifact).search(np.stack(vectors[artifact]), options)
            for position, hits in zip(places, found, strict=True):
                answers[position] = hits
        return answers

    def filter(self, given: object) -> Filter | None:
        """Return what users filter by as engines take it, None where it lets everything pass.

        Raises:
            InvalidInput: as `parse_filter`.
        """
        return parse_filter(given, self.fields)

    def find(self, artifact: str, condition: Filter | None, limit: int, offset: int = 0) -> list[str]:
        """Return the ids of an artifact's documents that pass a filter, in an order that stays the same.

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
        """Forget documents and their vectors of every artifact; return how many documents were there.

        Args:
            ids: of documents; those that are not there are passed over.
            condition: documents that pass it go, too.

        Raises:
            ResourceExhausted: the disk is full; nothing is deleted.
        """
        deleted = 0
        with self.writing, self._written(min(self._min_free, DELETE_FREE)):
            while condition is not None:
                found = {key for artifact in self.collections.all() for key in self.find(artifact, condition, PAGE)}
                if not found:
                    break
                deleted += self._delete(sorted(found))
            return deleted + self._delete(sorted(set(ids)))

    def take_out(self, artifact: str, ids: Sequence[str]) -> None:
        """Forget vectors of an artifact; their documents wait for new ones.

        Raises:
            ResourceExhausted: the disk is full.
        """
        with self.writing, self._written(min(self._min_free, DELETE_FREE)):
            self.collection(artifact).delete(ids)
            self.documents.unmark(artifact, ids)

    def drop(self, artifact: str) -> None:
        """Forget an artifact's collection; the documents stay.

        Raises:
            NotFound: it has none.
        """
        with self.writing:
            self.collection(artifact)
            self.collections.drop(artifact)
            self.documents.forget(artifact)

    def collection(self, artifact: str) -> Collection:
        """Return an artifact's vectors.

        Raises:
            NotFound: it has no collection; the message says which have one.
        """
        try:
            return self.collections[artifact]
        except KeyError:
            raise NotFound(self._no_collection(artifact)) from None

    def counts(self) -> dict[str, int]:
        """Return the number of vectors per artifact."""
        return {artifact: len(collection) for artifact, collection in self.collections.all().items()}

    def status(self) -> dict[str, Any]:
        """Return `collections` (artifact, dim, count, indexed of each), `documents`, `bytes` and `engine`.

        `indexed` is how many vectors are in the graph, `bytes` what the index takes on this machine's disk.
        """
        collections = []
        for artifact, collection in self.collections.all().items():
            graph = collection.graph()
            collections.append(
                {"artifact": artifact, "dim": collection.dim, "count": graph.vectors, "indexed": graph.indexed}
            )
        return {
            "collections": collections,
            "documents": len(self.documents),
            "bytes": _bytes_on_disk(self._folder),
            "engine": self.collections.engine.name,
        }

    def close(self) -> None:
        """Close every file and let others open the folder. A second call does nothing."""
        with self.writing:
            self._opened.close()

    def _delete(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        for collection in self.collections.all().values():
            collection.delete(ids)
        return self.documents.delete(ids)

    def _store(self, artifact: str, points: Sequence[Point], versions: Mapping[str, int]) -> None:
        if artifact not in self.collections:
            self.collections.create(artifact, len(points[0].vector), self.fields.indexed)
        self.collections[artifact].upsert(points)
        self.documents.mark(artifact, {point.id: versions[point.id] for point in points})

    def _know(self, rows: Iterable[PackedDocument]) -> None:
        """Remember fields that are new, and give them an index in every collection."""
        new = self.fields.new(field for row in rows for field in row.fields)
        if new:
            self.documents.add_fields(new)
            self.fields.add(new)
            for collection in self.collections.all().values():
                self._index_fields(collection)

    def _index_fields(self, collection: Collection) -> None:
        for path, kind in self.fields.indexed.items():
            collection.index_field(path, kind)

    @contextmanager
    def _written(self, least: int) -> Iterator[None]:
        """Around a whole request that writes: see that `least` bytes are free first, and name what the disk refuses."""
        free = shutil.disk_usage(self._folder).free
        if free < least:
            raise ResourceExhausted(
                f"the index must have {least >> 20} MiB free on its disk to be written. Got {free >> 20}. "
                "Nothing of this request is done. Make room, drop a collection, or lower `min_free_mb`."
            )
        try:
            yield
        except FinetunerError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise FinetunerServerError(
                f"the index must be able to write to {str(self._folder)!r}. Got: {error}. "
                "The request is not acknowledged: send it again once the disk is well. What was there before is."
            ) from error

    def _check_dim(self, artifact: str, vector: NDArray[np.float32], arriving: dict[str, NDArray[np.float32]]) -> None:
        if artifact in self.collections:
            dim = self.collections[artifact].dim
        else:
            dim = len(next(iter(arriving.values()), vector))
        if len(vector) != dim:
            raise InvalidDocument(
                f"embedding must have shape ({dim},), as the others of artifact {artifact!r} have. "
                f"Got {vector.shape}. Encode the document with that artifact."
            )

    def _no_collection(self, artifact: str) -> str:
        have = ", ".join(repr(name) for name in self.collections.all())
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
