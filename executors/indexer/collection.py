"""The vectors of one artifact, in Qdrant's engine inside this process.

    <folder>/collection.json   artifact, dim, distance
    <folder>/shard/            the engine's own files

A collection is found whole or not at all: it is made under another name and renamed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import qdrant_edge as qdrant
from numpy.typing import NDArray

from finetuner.exceptions import FinetunerServerError
from finetuner.workspace import publish_folder, write_atomically

DISTANCE = "cosine"
# Only for turning document ids into the engine's. Another value would lose every stored id: never change it.
NAMESPACE = uuid.UUID("6f2b8f5e-3c1d-4c55-9a34-0d4d3c0a7b1e")


def point_id(document_id: str) -> str:
    """Return the engine's id, a UUID, for a document's: any Unicode, case and normal form significant."""
    return str(uuid.uuid5(NAMESPACE, document_id))


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document: its id, and its cosine similarity with the query, in [-1, 1]."""

    id: str
    score: float


class Collection:
    """One artifact's vectors. Every change is on disk when its call returns.

    The engine takes searches from any thread beside one writer; callers see to it that there is only one.

    Args:
        folder: an existing collection; `create` makes one.

    Attributes:
        artifact: id of the artifact that made the vectors.
        dim: their length.

    Raises:
        FinetunerServerError: files that the engine cannot open.
    """

    def __init__(self, folder: Path) -> None:
        try:
            described = json.loads((folder / "collection.json").read_bytes())
            self.artifact = str(described["artifact"])
            self.dim = int(described["dim"])
            self._shard = qdrant.EdgeShard.load(str(folder / "shard"))
        except Exception as error:  # the engine raises bare `Exception`
            raise FinetunerServerError(
                f"collection {str(folder)!r} must hold collection.json and the engine's files. Got: {error}. "
                "Restore the folder from a backup, or move it away and index its documents again."
            ) from error

    @classmethod
    def create(cls, folder: Path, artifact: str, dim: int) -> Collection:
        """Make an empty collection; killed half-way it leaves a `.new-*` folder and no collection.

        Args:
            folder: not there yet.
            artifact: id of the artifact whose vectors it takes.
            dim: their length, 1 to 65536.
        """
        temporary = folder.with_name(f".new-{uuid.uuid4().hex}")
        vectors = qdrant.EdgeVectorParams(size=dim, distance=qdrant.Distance.Cosine)
        qdrant.EdgeShard.create(str(temporary / "shard"), qdrant.EdgeConfig(vectors=vectors)).close()
        described = {"artifact": artifact, "dim": dim, "distance": DISTANCE}
        write_atomically(temporary / "collection.json", json.dumps(described).encode())
        publish_folder(temporary, folder)
        return cls(folder)

    def __len__(self) -> int:
        return self._shard.count(qdrant.CountRequest())

    def __repr__(self) -> str:
        return f"Collection({self.artifact!r}, dim={self.dim})"

    def upsert(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store vectors, each in the place of the one with its id.

        Args:
            ids: document ids, no id twice.
            vectors: (len(ids), dim) float32, finite and not zero.
        """
        points = [
            # the id goes along because a UUID cannot be turned back into it
            qdrant.Point(point_id(document_id), vector, {"id": document_id})
            for document_id, vector in zip(ids, vectors.tolist(), strict=True)
        ]
        self._shard.update(qdrant.UpdateOperation.upsert_points(points))
        # without it a kill loses acknowledged writes: 17 of 21,593 when it was measured
        self._shard.flush()

    def delete(self, ids: Iterable[str]) -> None:
        """Forget vectors; ids that are not here are passed over."""
        points: list[qdrant.PointId] = [point_id(document_id) for document_id in ids]
        # A flush costs tens of milliseconds even with nothing to write, and every collection is asked.
        held = self._shard.retrieve(points, with_payload=False, with_vector=False)
        if held:
            self._shard.update(qdrant.UpdateOperation.delete_points([record.id for record in held]))
            self._shard.flush()

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of the ids that are here, (dim,) float32, L2-normalised."""
        points: list[qdrant.PointId] = [point_id(document_id) for document_id in ids]
        records = self._shard.retrieve(points, with_payload=True, with_vector=True)
        return {(r.payload or {})["id"]: np.asarray(r.vector, dtype=np.float32) for r in records}

    def search(self, vectors: NDArray[np.float32], limit: int) -> list[list[Hit]]:
        """Return each query's nearest documents, best first, found exactly: every vector is compared.

        Args:
            vectors: (queries, dim) float32, finite and not zero.
            limit: most hits per query, 1 or more.
        """
        exact = qdrant.SearchParams(exact=True)
        requests = [
            qdrant.QueryRequest(limit=limit, query=qdrant.Query.Nearest(vector), with_payload=True, params=exact)
            for vector in vectors.tolist()
        ]
        found = self._shard.query_batch(qdrant.QueryBatchRequest(requests))
        return [[Hit((point.payload or {})["id"], point.score) for point in points] for points in found]

    def close(self) -> None:
        """Close the engine's files."""
        self._shard.close()
