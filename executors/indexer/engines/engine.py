"""What the indexer asks of an engine, and nothing more: adapters are thin, and one contract test runs on each.

Filters reach an engine as `Filter`: Qdrant's JSON form over payload paths, made by `executors.indexer.retrieval.filters`. There
is no alias among the calls: what `live` searches is one pointer in the workspace, flipped there for every engine.
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

# Below this many vectors every one is compared; a graph would cost more than it saves.
EXACT_BELOW = 20_000
# Neighbours that a graph search looks at: recall@10 was below 0.98 with 64.
GRAPH_EF = 128
# Links and candidates while the graph is built: Qdrant's own defaults.
GRAPH_M, GRAPH_EF_CONSTRUCT = 16, 100
# int8 vectors find this many times the hits, whose full vectors then decide.
OVERSAMPLING = 2.0
# The kinds of payload index: what a field holds.
TEXT, NUMBER = "text", "number"
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


@dataclass(frozen=True, slots=True)
class Point:
    """One document as an engine keeps it."""

    id: str
    """The document's id, kept in the payload because a UUID cannot be turned back into it."""
    vector: NDArray[np.float32]
    """(dim,) float32, L2-normalised."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """What filters look at, under `tags` in the payload."""

    @property
    def payload(self) -> dict[str, Any]:
        """What is stored beside the vector."""
        return {"id": self.id, "tags": dict(self.tags)}


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What one request asks of all its queries."""

    limit: int
    """Most hits per query, 1 or more."""
    offset: int = 0
    """Best hits that are passed over."""
    filter: Filter | None = None
    """Documents that count; all where None."""
    score_threshold: float | None = None
    """Lowest cosine similarity of a hit."""
    exact: bool = False
    """Compare with every vector, however many there are."""


@dataclass(frozen=True, slots=True)
class GraphState:
    """How far the graph is."""

    vectors: int
    """How many there are."""
    indexed: int
    """How many of them are in a graph; the others are compared one by one."""


class Collection(Protocol):
    """One artifact's vectors. Every change is durable when its call returns; searches run beside one writer."""

    dim: int

    def __len__(self) -> int: ...

    def upsert(self, points: Sequence[Point]) -> None:
        """Store points, no id twice, each in the place of the one with its id."""

    def delete(self, ids: Iterable[str]) -> None:
        """Forget points; ids that are not here are passed over."""

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of the ids that are here, (dim,) float32, L2-normalised."""

    def search(self, vectors: NDArray[np.float32], options: SearchOptions) -> list[list[Hit]]:
        """Return each query's nearest documents, best first; (queries, dim) float32, finite and not zero."""

    def scroll(
        self, after: str | None, limit: int, condition: Filter | None = None, vectors: bool = True
    ) -> tuple[list[Point], str | None]:
        """Return the next points in the order of the engine's ids, and what to pass as `after` for more.

        Args:
            after: None to begin with, later what the call before returned; None there is the end.
            limit: most points, 1 or more.
            condition: points that count; all where None.
            vectors: whether to read them; otherwise they are empty.
        """

    def count(self, condition: Filter | None = None) -> int:
        """Return how many points there are that count."""

    def index_field(self, path: str, kind: str) -> None:
        """Make filters on a payload field fast: TEXT or NUMBER. A second call does nothing."""

    def graph(self) -> GraphState:
        """Return how many vectors there are, and how many are in a graph."""

    def optimise(self, spare: int = 0) -> None:
        """Build what is missing of the graph; takes long, and other threads write and search meanwhile.

        Args:
            spare: bytes that stay free on this machine's disk.
        """

    def copy_to(self, folder: Path) -> None:
        """Copy what is on this machine, description and all, into a new folder; nobody may write meanwhile."""

    def stop(self) -> None:
        """End `optimise`, which another thread is in; it raises there."""

    def close(self) -> None:
        """Let go of files and connections."""


class Engine(Protocol):
    """Makes, opens and drops collections."""

    name: str
    """'edge', or the server's URL."""

    def create(self, folder: Path, name: str, dim: int) -> None:
        """Make an empty collection.

        Args:
            folder: of its own, not there yet; what belongs on this machine goes in.
            name: what a server calls it.
            dim: length of its vectors, 1 to 65536.
        """

    def open(self, folder: Path, name: str, dim: int) -> Collection:
        """Open one that was made before.

        Raises:
            FinetunerServerError: it is not there, or damaged.
        """

    def drop(self, name: str) -> None:
        """Forget what is not in the folder; one that is not there is passed over."""
