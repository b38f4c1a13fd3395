"""A Qdrant server or cluster through qdrant-client. The server does sharding, replication and snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from finetuner.exceptions import FinetunerServerError, NotFound
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
    Spread,
    point_id,
)  # fmt: skip

API_KEY = "QDRANT_API_KEY"
SECONDS = 60
ONLY_ID = ["id"]
# Points per request; a server refuses more than 32 MB.
UPSERTED = 1000


class ServerEngine:
    """Creates and opens collections on a server.

    Args:
        url: such as 'https://host:6333'; $QDRANT_API_KEY has the key, if the server needs one.
        quantise: INT8 or BINARY to keep such codes in memory and search with them; the full vectors rank the hits.
        spread: of new collections over the nodes of a cluster.
    """

    files_here = False

    def __init__(self, url: str, quantise: str = "", spread: Spread | None = None) -> None:
        self.name = url
        self._quantise = quantise
        self._spread = spread or Spread()
        with translated(url):
            self._client = QdrantClient(
                url=url, api_key=os.environ.get(API_KEY), timeout=SECONDS, check_compatibility=False
            )

    def create(self, folder: Path, name: str, dim: int) -> None:
        """As `Engine.create`; the folder stays empty."""
        folder.mkdir(parents=True)
        with translated(self.name):
            self._client.create_collection(
                name,
                vectors_config=models.VectorParams(size=dim, distance=models.Distance.COSINE),
                hnsw_config=models.HnswConfigDiff(m=GRAPH_M, ef_construct=GRAPH_EF_CONSTRUCT),
                optimizers_config=models.OptimizersConfigDiff(indexing_threshold=EXACT_BELOW // 2 * dim * 4 // 1024),
                quantization_config=_codes(self._quantise),
                shard_number=self._spread.shard_number or None,
                replication_factor=self._spread.replication_factor,
                write_consistency_factor=self._spread.write_consistency_factor,
            )

    def open(self, folder: Path, name: str, dim: int) -> ServerCollection:
        """As `Engine.open`."""
        with translated(self.name):
            if not self._client.collection_exists(name):
                raise NotFound(
                    f"the server {self.name} must have collection {name!r}. Got none. Restore it on the server."
                )
        return ServerCollection(self._client, self.name, name, dim, self._quantise)

    def drop(self, name: str) -> None:
        """As `Engine.drop`."""
        with translated(self.name):
            if self._client.collection_exists(name):
                self._client.delete_collection(name)


class ServerCollection:
    """As `Collection`, on a server."""

    def __init__(self, client: QdrantClient, url: str, name: str, dim: int, quantise: str) -> None:
        self.dim = dim
        self._client = client
        self._url = url
        self._name = name
        self._quantise = quantise

    def __len__(self) -> int:
        return self.count()

    def upsert(self, points: Sequence[Point]) -> None:
        """As `Collection.upsert`."""
        stored = [
            models.PointStruct(id=point_id(point.id), vector=point.vector.tolist(), payload=point.payload)
            for point in points
        ]
        with translated(self._url):
            for start in range(0, len(stored), UPSERTED):
                self._client.upsert(self._name, stored[start : start + UPSERTED], wait=True)

    def delete(self, ids: Iterable[str]) -> None:
        """As `Collection.delete`."""
        points: list[Any] = [point_id(document_id) for document_id in ids]
        with translated(self._url):
            self._client.delete(self._name, points_selector=points, wait=True)

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """As `Collection.get`."""
        points = [point_id(document_id) for document_id in ids]
        with translated(self._url):
            records = self._client.retrieve(self._name, points, with_payload=ONLY_ID, with_vectors=True)
        return {point.id: point.vector for point in map(_point, records)}

    def search(self, vectors: NDArray[np.float32], options: SearchOptions) -> list[list[Hit]]:
        """As `Collection.search`."""
        exact = options.exact or self._few()
        more = OVERSAMPLING.get(self._quantise)
        rescored = models.QuantizationSearchParams(ignore=exact, rescore=True, oversampling=more) if more else None
        params = models.SearchParams(exact=exact, hnsw_ef=GRAPH_EF, quantization=rescored)
        condition = None if options.filter is None else _filter(options.filter)
        requests = [
            models.QueryRequest(
                query=vector,
                limit=options.limit,
                offset=options.offset,
                filter=condition,
                score_threshold=options.score_threshold,
                with_payload=ONLY_ID,
                params=params,
            )
            for vector in vectors.tolist()
        ]
        with translated(self._url):
            found = self._client.query_batch_points(self._name, requests)
        return [[Hit((point.payload or {})["id"], point.score) for point in answer.points] for answer in found]

    def scroll(
        self, after: str | None, limit: int, condition: Filter | None = None, vectors: bool = True
    ) -> tuple[list[Point], str | None]:
        """As `Collection.scroll`."""
        passing = None if condition is None else _filter(condition)
        with translated(self._url):
            records, following = self._client.scroll(
                self._name, scroll_filter=passing, limit=limit, offset=after, with_payload=True, with_vectors=vectors
            )
        return [_point(record) for record in records], None if following is None else str(following)

    def count(self, condition: Filter | None = None) -> int:
        """As `Collection.count`."""
        passing = None if condition is None else _filter(condition)
        with translated(self._url):
            return self._client.count(self._name, count_filter=passing, exact=True).count

    def facet(self, path: str, limit: int, condition: Filter | None = None) -> list[tuple[str, int]]:
        """As `Collection.facet`."""
        passing = None if condition is None else _filter(condition)
        with translated(self._url):
            found = self._client.facet(self._name, path, facet_filter=passing, limit=limit, exact=True)
        return [(str(hit.value), hit.count) for hit in found.hits]

    def index_field(self, path: str, kind: str) -> None:
        """As `Collection.index_field`."""
        schema = models.PayloadSchemaType.FLOAT if kind == NUMBER else models.PayloadSchemaType.KEYWORD
        with translated(self._url):
            self._client.create_payload_index(self._name, path, field_schema=schema, wait=True)

    def graph(self) -> GraphState:
        """As `Collection.graph`."""
        with translated(self._url):
            info = self._client.get_collection(self._name)
        vectors = info.points_count or 0
        return GraphState(vectors, min(info.indexed_vectors_count or 0, vectors))

    def optimise(self, spare: int = 0) -> None:
        """Do nothing: the server builds graphs itself."""

    def copy_to(self, folder: Path) -> None:
        """Not supported: no files are on this machine. Use the server's snapshots."""
        raise NotImplementedError

    def stop(self) -> None:
        """Do nothing: `optimise` never runs here."""

    def close(self) -> None:
        """Do nothing: all collections share the engine's connection, which ends with the process."""

    def _few(self) -> bool:
        with translated(self._url):  # an estimate; an exact count reads every point
            return self._client.count(self._name, exact=False).count < EXACT_BELOW


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Translate the client's errors.

    Raises:
        FinetunerServerError: the server does not answer, or refuses.
    """
    try:
        yield
    except (ApiException, OSError, ValueError) as error:
        got = (str(error).strip() or repr(error)).splitlines()
        raise FinetunerServerError(
            f"the Qdrant server {url} must answer. Got {type(error).__name__}: {' '.join(got)[:300]}. "
            f"Check that it is up, its address, and ${API_KEY}."
        ) from error


def _codes(quantise: str) -> models.ScalarQuantization | models.BinaryQuantization | None:
    if quantise == BINARY:  # a query of bits would lose half of the neighbours
        query = models.BinaryQuantizationQueryEncoding.SCALAR8BITS
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True, query_encoding=query))
    int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    return models.ScalarQuantization(scalar=int8) if quantise else None


def _filter(form: Filter) -> models.Filter:
    return models.Filter(**form)


def _point(record: Any) -> Point:
    payload: Mapping[str, Any] = record.payload or {}
    vector = np.asarray(() if record.vector is None else record.vector, dtype=np.float32)
    return Point(payload["id"], vector, payload.get("tags") or {})
