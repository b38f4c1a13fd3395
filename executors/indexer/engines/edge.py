"""Qdrant's embedded engine: files in the collection's folder, no server.

    <folder>/edge.json      names the current shard
    <folder>/shard-<hex>/   the engine's files

Every call of the engine holds Python's lock, so another process builds the graph on a copy, which takes minutes. Points
written meanwhile are copied over. Then `edge.json` is replaced: a kill leaves either the old shard or the new one.
"""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
from numpy.typing import NDArray

from finetuner.exceptions import FinetunerServerError, InsufficientStorage
from finetuner.executors.indexer.engines.build_graph import GraphBuild
from finetuner.executors.indexer.engines.edge_filter import edge_filter
from finetuner.executors.indexer.engines.engine import (
    BINARY,
    EXACT_BELOW,
    GRAPH_EF,
    GRAPH_EF_CONSTRUCT,
    GRAPH_M,
    NUMBER,
    OVERSAMPLING,
    Filter,
    GraphState,
    Hit,
    Point,
    SearchOptions,
    point_id,
)  # fmt: skip
from finetuner.workspace.folder import write_atomically

CURRENT = "edge.json"
ONLY_ID = ["id"]
# Points that have lost their payload to a damaged file. The id '' deletes them.
NAMELESS = qdrant.Filter(must=[qdrant.IsEmptyCondition("id")])
# Points copied at once, and the maximum copied while writes wait.
CARRIED = 256


class EdgeEngine:
    """Creates and opens collections in folders.

    Args:
        quantise: INT8 or BINARY to keep such codes too and search the graph with them; the full vectors rank the hits.
    """

    name = "edge"
    files_here = True

    def __init__(self, quantise: str = "") -> None:
        self._quantise = quantise

    def create(self, folder: Path, name: str, dim: int) -> None:
        """As `Engine.create`; the name is not used."""
        shard = folder / f"shard-{uuid.uuid4().hex}"
        shard.mkdir(parents=True)
        qdrant.EdgeShard.create(str(shard), self._config(dim)).close()
        write_atomically(folder / CURRENT, json.dumps({"shard": shard.name}).encode())

    def open(self, folder: Path, name: str, dim: int) -> EdgeCollection:
        """As `Engine.open`."""
        return EdgeCollection(folder, dim, self._config(dim), self._quantise)

    def drop(self, name: str) -> None:
        """Do nothing: everything is in the folder."""

    def _config(self, dim: int) -> qdrant.EdgeConfig:
        return qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(size=dim, distance=qdrant.Distance.Cosine),
            # full_scan_threshold and indexing_threshold count kilobytes of vectors
            hnsw_config=qdrant.HnswIndexConfig(GRAPH_M, GRAPH_EF_CONSTRUCT, _kilobytes(EXACT_BELOW // 2, dim)),
            optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=_kilobytes(EXACT_BELOW // 2, dim)),
            quantization_config=_codes(self._quantise),
        )


class EdgeCollection:
    """As `Collection`, on one shard."""

    def __init__(self, folder: Path, dim: int, config: qdrant.EdgeConfig, quantise: str) -> None:
        self.dim = dim
        self._folder = folder
        self._config = config
        self._quantise = quantise
        self._writing = threading.Lock()
        self._fields: dict[str, str] = {}
        # ids written since the copy was made, while a graph is being built
        self._changed: set[str] | None = None
        self._build: GraphBuild | None = None
        current = Path(json.loads((folder / CURRENT).read_bytes())["shard"]).name
        for left in folder.glob("shard-*"):  # a copy with an unfinished graph, or a replaced shard
            if left.name != current:
                shutil.rmtree(left)
        self._shard_folder = folder / current
        self._shard = qdrant.EdgeShard.load(str(self._shard_folder), config)

    def __len__(self) -> int:
        return self.count()

    def upsert(self, points: Sequence[Point]) -> None:
        """As `Collection.upsert`."""
        with self._writing, self._translated():
            _upsert(self._shard, points)
            if self._changed is not None:
                self._changed.update(point.id for point in points)

    def delete(self, ids: Iterable[str]) -> None:
        """As `Collection.delete`."""
        named = list(ids)
        with self._writing, self._translated():
            _delete(self._shard, named)
            if self._changed is not None:
                self._changed.update(named)

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As `Collection.get`."""
        with self._translated():
            return {point.id: point.vector for point in _read(self._shard, ids)}

    def search(self, vectors: NDArray[np.float32], options: SearchOptions) -> list[list[Hit]]:
        """As `Collection.search`."""
        exact = options.exact or self._shard.info().points_count < EXACT_BELOW  # counting points takes 5 ms
        more = OVERSAMPLING.get(self._quantise)
        rescored = qdrant.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=more) if more else None
        params = qdrant.SearchParams(exact=exact, hnsw_ef=GRAPH_EF, quantization=rescored)
        condition = None if options.filter is None else edge_filter(options.filter)
        requests = [
            qdrant.QueryRequest(
                limit=options.limit,
                offset=options.offset,
                query=qdrant.Query.Nearest(vector),
                filter=condition,
                score_threshold=options.score_threshold,
                with_payload=ONLY_ID,
                params=params,
            )
            for vector in vectors.tolist()
        ]
        with self._translated():
            found = self._shard.query_batch(qdrant.QueryBatchRequest(requests))
        return [[Hit(_id(point.payload), point.score) for point in points] for points in found]

    def scroll(
        self, after: str | None, limit: int, condition: Filter | None = None, vectors: bool = True
    ) -> tuple[list[Point], str | None]:
        """As `Collection.scroll`."""
        passing = None if condition is None else edge_filter(condition)
        with self._translated():
            records, following = self._shard.scroll(
                qdrant.ScrollRequest(offset=after, limit=limit, filter=passing, with_payload=True, with_vector=vectors)
            )
        return [_point(record) for record in records], None if following is None else str(following)

    def count(self, condition: Filter | None = None) -> int:
        """As `Collection.count`."""
        passing = None if condition is None else edge_filter(condition)
        with self._translated():
            return self._shard.count(qdrant.CountRequest(filter=passing))

    def facet(self, path: str, limit: int, condition: Filter | None = None) -> list[tuple[str, int]]:
        """As `Collection.facet`."""
        passing = None if condition is None else edge_filter(condition)
        with self._translated():
            found = self._shard.facet(qdrant.FacetRequest(path, limit=limit, exact=True, filter=passing))
        return [(str(hit.value), hit.count) for hit in found.hits]

    def index_field(self, path: str, kind: str) -> None:
        """As `Collection.index_field`."""
        with self._writing, self._translated():
            self._fields[path] = kind
            _index_field(self._shard, path, kind)

    def graph(self) -> GraphState:
        """As `Collection.graph`."""
        info = self._shard.info()
        return GraphState(info.points_count, min(info.indexed_vectors_count, info.points_count))

    def optimise(self, spare: int = 0) -> None:
        """As `Collection.optimise`; only writes wait, and only while the files are copied.

        Raises:
            InsufficientStorage: the disk has no room for the copy, the graph and the spare bytes.
            FinetunerServerError: the build failed.
        """
        copy = self._folder / f"shard-{uuid.uuid4().hex}"
        try:
            with self._writing:
                self._shard.flush()
                self._check_room(2 * sum(file.stat().st_size for file in self._shard_folder.rglob("*")) + spare)
                shutil.copytree(self._shard_folder, copy)
                self._changed = set()
                self._build = GraphBuild(copy)
            self._build.wait()
            self._check_room(spare)
            self._carry_over(copy)
        finally:
            with self._writing:
                self._changed = self._build = None
            if copy != self._shard_folder:
                shutil.rmtree(copy, ignore_errors=True)

    def copy_to(self, folder: Path) -> None:
        """As `Collection.copy_to`."""
        with self._writing:
            self._shard.flush()
            shutil.copytree(self._shard_folder, folder / self._shard_folder.name)
            for file in self._folder.glob("*.json"):
                shutil.copy2(file, folder)

    def stop(self) -> None:
        """As `Collection.stop`."""
        build = self._build
        if build is not None:
            build.stop()

    def close(self) -> None:
        """As `Collection.close`."""
        self.stop()
        with self._writing:
            self._shard.close()

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise InsufficientStorage(
                f"the disk must have {needed >> 20} MiB free for a graph, which is built on a copy. Got {free >> 20}. "
                "Searches work without the graph. Make room, or drop a collection."
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate the engine's errors, which are bare `Exception`."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:
                raise
            raise FinetunerServerError(
                f"the engine's files in {str(self._folder)!r} must be intact, on a disk with free space. Got: {error}. "
                "Check the disk and restart. If that does not help, restore a backup or move that folder away: "
                "the indexer then encodes documents of `live` again."
            ) from error

    def _carry_over(self, copy: Path) -> None:
        """Copy the points written since the copy was made, then switch to the copy."""
        fresh = qdrant.EdgeShard.load(str(copy), self._config)
        while True:
            with self._writing:
                changed, self._changed = sorted(self._changed or ()), set()
                last = len(changed) <= CARRIED
                if last:
                    self._copy_points(changed, fresh)
                    for path, kind in self._fields.items():
                        _index_field(fresh, path, kind)
                    write_atomically(self._folder / CURRENT, json.dumps({"shard": copy.name}).encode())
                    # running searches keep the old shard until they end
                    self._shard, old, self._shard_folder = fresh, self._shard_folder, copy
            if last:
                shutil.rmtree(old, ignore_errors=True)
                return
            for start in range(0, len(changed), CARRIED):
                self._copy_points(changed[start : start + CARRIED], fresh)

    def _copy_points(self, ids: Sequence[str], fresh: qdrant.EdgeShard) -> None:
        points = _read(self._shard, ids)
        gone = set(ids) - {point.id for point in points}
        if points:
            _upsert(fresh, points)
        if gone:
            _delete(fresh, gone)


def _codes(quantise: str) -> qdrant.ScalarQuantizationConfig | qdrant.BinaryQuantizationConfig | None:
    if quantise == BINARY:  # a query of bits would lose half of the neighbours
        return qdrant.BinaryQuantizationConfig(
            always_ram=True, query_encoding=qdrant.BinaryQuantizationQueryEncoding.Scalar8Bits
        )
    return qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, always_ram=True) if quantise else None


def _upsert(shard: qdrant.EdgeShard, points: Iterable[Point]) -> None:
    stored = [qdrant.Point(point_id(point.id), point.vector.tolist(), point.payload) for point in points]
    shard.update(qdrant.UpdateOperation.upsert_points(stored))
    # without this flush a kill loses acknowledged writes: 17 of 21,593 in a measurement
    shard.flush()


def _delete(shard: qdrant.EdgeShard, ids: Collection[str]) -> None:
    if "" in ids:
        shard.update(qdrant.UpdateOperation.delete_points_by_filter(NAMELESS))
        shard.flush()
    # A flush takes tens of milliseconds even without changes, and a delete reaches every collection.
    held = shard.retrieve([point_id(document_id) for document_id in ids], with_payload=False, with_vector=False)
    if held:
        shard.update(qdrant.UpdateOperation.delete_points([record.id for record in held]))
        shard.flush()


def _read(shard: qdrant.EdgeShard, ids: Iterable[str]) -> list[Point]:
    points: list[qdrant.PointId] = [point_id(document_id) for document_id in ids]
    return [_point(record) for record in shard.retrieve(points, with_payload=True, with_vector=True)]


def _point(record: qdrant.Record) -> Point:
    payload = record.payload or {}
    # a damaged vector file reads as an empty mapping
    vector = np.asarray(record.vector if isinstance(record.vector, list) else (), dtype=np.float32)
    return Point(_id(payload), vector, payload.get("tags") or {})


def _id(payload: Mapping[str, Any] | None) -> str:
    """Return the document's id, or '' if a damaged file has lost it; see `NAMELESS`. No document has the id ''."""
    return str((payload or {}).get("id", ""))


def _index_field(shard: qdrant.EdgeShard, path: str, kind: str) -> None:
    if path not in shard.info().payload_schema:
        schema = qdrant.PayloadSchemaType.Float if kind == NUMBER else qdrant.PayloadSchemaType.Keyword
        shard.update(qdrant.UpdateOperation.create_field_index(path, schema))
        shard.flush()


def _kilobytes(vectors: int, dim: int) -> int:
    return max(vectors * dim * 4 // 1024, 1)
