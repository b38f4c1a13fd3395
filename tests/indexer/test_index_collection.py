"""One collection on the real engine; brute force in numpy is the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from executors.indexer.collection import Collection, point_id
from finetuner.exceptions import FinetunerServerError

DIM = 24


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    """Random directions, (count, dim) float32, L2-normalised."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    made = Collection.create(tmp_path / "one", "model-a", DIM)
    yield made
    made.close()


def test_search_equals_brute_force(collection: Collection) -> None:
    vectors, queries = unit_vectors(400), unit_vectors(32, seed=1)
    collection.upsert([f"d{i}" for i in range(400)], vectors)
    cosines = queries @ vectors.T  # (32, 400)
    for limit in (1, 7, 500):
        found = collection.search(queries, limit)
        for hits, row in zip(found, cosines, strict=True):
            best = np.argsort(-row)[:limit]
            assert [hit.id for hit in hits] == [f"d{i}" for i in best]
            np.testing.assert_allclose([hit.score for hit in hits], row[best], atol=1e-5)


def test_upsert_replaces(collection: Collection) -> None:
    old, new = unit_vectors(2)
    collection.upsert(["x"], old[None])
    collection.upsert(["x"], new[None])
    assert len(collection) == 1
    np.testing.assert_allclose(collection.get(["x"])["x"], new, atol=1e-6)
    assert collection.search(new[None], 5)[0][0].score == pytest.approx(1, abs=1e-5)


def test_delete_passes_over_ids_that_are_not_there(collection: Collection) -> None:
    collection.upsert(["a", "b"], unit_vectors(2))
    collection.delete(["b", "never there"])
    assert len(collection) == 1
    assert list(collection.get(["a", "b"])) == ["a"]


def test_empty_collection_finds_nothing(collection: Collection) -> None:
    assert collection.search(unit_vectors(2), 10) == [[], []]


def test_reopened_holds_the_same(tmp_path: Path) -> None:
    vectors = unit_vectors(50)
    made = Collection.create(tmp_path / "one", "ViT-B-32::openai", DIM)
    made.upsert([str(i) for i in range(50)], vectors)
    made.close()
    opened = Collection(tmp_path / "one")
    assert (opened.artifact, opened.dim, len(opened)) == ("ViT-B-32::openai", DIM, 50)
    np.testing.assert_allclose(opened.get(["17"])["17"], vectors[17], atol=1e-6)
    opened.close()


def test_point_ids_never_change() -> None:
    # Other numbers here mean that no index written before can be updated any more.
    assert point_id("d1") == "33daa405-dcfb-53f5-bdfc-f5d201fa7753"
    assert point_id("\u00e9") != point_id("e\u0301")


@pytest.mark.parametrize("broken", ["collection.json", "shard/edge_config.json"])
def test_broken_files_are_named(tmp_path: Path, broken: str) -> None:
    Collection.create(tmp_path / "one", "model-a", DIM).close()
    (tmp_path / "one" / broken).write_bytes(b"{")
    with pytest.raises(FinetunerServerError, match=r"collection '.*one' must hold .* Restore the folder"):
        Collection(tmp_path / "one")
