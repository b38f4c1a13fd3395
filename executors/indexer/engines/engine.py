"""The interface of an engine. Adapters are thin, and one contract test runs on each.

Filters reach an engine as `Filter`: Qdrant's JSON form over payload paths, made by `retrieval.filters`. Engines know no
aliases: one pointer in the workspace names the artifact that `live` searches.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Filter = Mapping[str, Any]

# With fewer vectors a search compares them all; a graph would cost more than it saves.
EXACT_BELOW = 20_000
# Candidates of a graph search: recall@10 was below 0.98 with 64.
GRAPH_EF = 128
# Links and candidates while the graph is built: Qdrant's own defaults.
GRAPH_M, GRAPH_EF_CONSTRUCT = 16, 100
# The kinds of codes that may stand beside the vectors.
INT8, BINARY = "int8", "binary"
# A search of codes takes this many times the hits; the full vectors rank them. Sentence-transformers rescores twice as
# many of int8 codes, and four times as many of binary ones.
OVERSAMPLING = {INT8: 2.0, BINARY: 4.0}
# The kinds of payload index.
TEXT, NUMBER = "text", "number"
# Turns document ids into the engine's. Never change it: every stored id would be lost.
NAMESPACE = uuid.UUID("6f2b8f5e-3c1d-4c55-9a34-0d4d3c0a7b1e")


def point_id(document_id: str) -> str:
    """Return the engine's UUID of a document id: any Unicode; case and normal form are significant."""
    return str(uuid.uuid5(NAMESPACE, document_id))


@dataclass(frozen=True, slots=True)
class Hit:
    """A found document: its id and its cosine similarity with the query, in [-1, 1]."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Point:
    """A document as an engine stores it."""

    id: str
    """The document's id. The payload stores it, because the UUID cannot be turned back into it."""
    vector: NDArray[np.float32]
    """(dim,) float32, L2-normalised."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """The tags that filters read, under `tags` in the payload."""

    @property
    def payload(self) -> dict[str, Any]:
        """The payload stored beside the vector."""
        return {"id": self.id, "tags": dict(self.tags)}


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of one search request; they apply to all its queries."""

    limit: int
    """Maximum hits per query, at least 1."""
    offset: int = 0
    """Number of best hits to skip."""
    filter: Filter | None = None
    """Filter that hits must pass; None for no filter."""
    score_threshold: float | None = None
    """Lowest cosine similarity of a hit."""
    exact: bool = False
    """Compare with every vector, for any number of vectors."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How new collections lie on the nodes of a cluster. The names are Qdrant's."""

    shard_number: int = 0
    """Parts of a collection; 0 leaves it to the cluster."""
    replication_factor: int = 1
    """Copies of each shard, each on another node."""
    write_consistency_factor: int = 1
    """Copies that must have a write before it counts."""


@dataclass(frozen=True, slots=True)
class GraphState:
    """Progress of the graph."""

    vectors: int
    """Number of vectors."""
    indexed: int
    """Number of vectors in a graph; searches compare the others one by one."""


class Collection(Protocol):
    """One artifact's vectors. Every change is durable when its call returns. Searches run beside one writer."""

    dim: int

    def __len__(self) -> int: ...

    def upsert(self, points: Sequence[Point]) -> None:
        """Store points, no id twice. Each replaces the point with its id."""

    def delete(self, ids: Iterable[str]) -> None:
        """Delete points; unknown ids are ignored."""

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of the known ids, each (dim,) float32, L2-normalised."""

    def search(self, vectors: NDArray[np.float32], options: SearchOptions) -> list[list[Hit]]:
        """Return each query's nearest documents, best first.

        Args:
            vectors: (queries, dim) float32, finite, not zero.
            options: apply to every query.
        """

    def scroll(
        self, after: str | None, limit: int, condition: Filter | None = None, vectors: bool = True
    ) -> tuple[list[Point], str | None]:
        """Return the next points in the order of the engine's ids, and the next `after`.

        Args:
            after: None for the first call, then the value of the previous call. A returned None is the end.
            limit: maximum number of points, at least 1.
            condition: filter that the points must pass; None for no filter.
            vectors: whether to read vectors; otherwise they are empty.
        """

    def count(self, condition: Filter | None = None) -> int:
        """Return the number of points that pass the filter; of all points without one."""

    def facet(self, path: str, limit: int, condition: Filter | None = None) -> list[tuple[str, int]]:
        """Return the most frequent texts of an indexed TEXT field and their exact counts, the most frequent first.

        Args:
            path: a field with an index, see `index_field`.
            limit: maximum number of values, at least 1.
            condition: count only points that pass; None for all points.
        """

    def index_field(self, path: str, kind: str) -> None:
        """Index a payload field for filters; `kind` is TEXT or NUMBER. A second call does nothing."""

    def graph(self) -> GraphState:
        """Return the number of vectors, and of those in a graph."""

    def optimise(self, spare: int = 0) -> None:
        """Complete the graph. This takes long; other threads write and search meanwhile.

        Args:
            spare: bytes to leave free on this machine's disk.
        """

    def copy_to(self, folder: Path) -> None:
        """Copy all files on this machine, with the description, into a new folder. The caller blocks writes."""

    def stop(self) -> None:
        """Stop an `optimise` in another thread, which raises there."""

    def close(self) -> None:
        """Close files and connections."""


class Engine(Protocol):
    """Creates, opens and drops collections."""

    name: str
    """'edge', or the server's URL."""
    files_here: bool
    """Whether the vectors are files on this machine, see `Collection.copy_to`."""

    def create(self, folder: Path, name: str, dim: int) -> None:
        """Create an empty collection.

        Args:
            folder: for its files on this machine; must not exist.
            name: its name on a server.
            dim: length of its vectors, 1 to 65536.
        """

    def open(self, folder: Path, name: str, dim: int) -> Collection:
        """Open an existing collection.

        Raises:
            NotFound: it does not exist.
            FinetunerServerError: the server does not answer.
            BaseException: the embedded engine's own errors, for damaged files.
        """

    def drop(self, name: str) -> None:
        """Delete everything outside the folder; an unknown name is ignored."""
