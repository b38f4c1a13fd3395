"""Collections of short vectors: what is cut, what is refused, and that brute force over the first numbers agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.artifacts.manifest import MANIFEST, Manifest, sealed
from finetuner.contract.wire import EXAMPLE_TAG, error_of
from finetuner.executors.indexer.executor import Indexer
from finetuner.workspace.folder import Workspace
from tests.indexer.answers import searched

MakeDocument = Callable[..., Document]
A, OLD, PLAIN = (letter * 24 for letter in "abc")
DIM, SHORT = 16, 8
RNG = np.random.default_rng(7)
VECTORS, QUERY = RNG.normal(size=(30, DIM)), RNG.normal(size=DIM)


def first(vector: np.ndarray, size: int = SHORT) -> np.ndarray:
    return vector[:size] / np.linalg.norm(vector[:size])


def open_room(root: Path, dimensions: int = SHORT) -> Indexer:
    return Indexer(workspace_url=str(root), dimensions=dimensions)


def publish(workspace: Workspace, artifact: str, training: dict[str, Any]) -> None:
    folder = workspace.artifacts / artifact
    folder.mkdir(parents=True)
    towers = ["clip-text", "clip-vision"]
    manifest = Manifest(artifact, "run", "clip-mini", DIM, towers, {}, {}, "2026-01-01", "1", training=training)
    (folder / MANIFEST).write_text(sealed(asdict(manifest)))


def texts(artifact: str, encoded: MakeDocument) -> DocumentArray:
    return DocumentArray(encoded(f"{i}", VECTORS[i], artifact, text=f"text {i}") for i in range(len(VECTORS)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, encoded: MakeDocument) -> Iterator[Indexer]:
    root = tmp_path_factory.mktemp("sizes")
    workspace = Workspace(root)
    trained = {"loss_options": {"matryoshka_dims": [SHORT, 4]}}
    publish(workspace, A, trained)
    publish(workspace, OLD, trained)
    publish(workspace, PLAIN, {})
    before = open_room(root, 0)
    before.index(docs=texts(OLD, encoded), parameters={"artifact": OLD})
    before.close()
    made = open_room(root)
    for artifact in (A, PLAIN):
        made.index(docs=texts(artifact, encoded), parameters={"artifact": artifact})
    yield made
    made.close()


def best(vector: np.ndarray, size: int) -> list[str]:
    return [str(i) for i in np.argsort([-float(first(row, size) @ first(vector, size)) for row in VECTORS])]


def ids(room: Indexer, query: Document, **parameters: Any) -> list[str]:
    answer = searched(room, docs=DocumentArray([query]), parameters={"limit": 30, **parameters})[0]
    assert (error := error_of(answer)) is None, error
    return [match.id for match in answer.matches]


@pytest.mark.parametrize(("artifact", "size"), [(A, SHORT), (OLD, DIM), (PLAIN, DIM)])
def test_a_search_is_brute_force_over_the_numbers_that_are_kept(
    room: Indexer, encoded: MakeDocument, artifact: str, size: int
) -> None:
    collection = {each["artifact"]: each for each in room._index.status()["collections"]}[artifact]
    assert (collection["dim"], collection["count"]) == (size, len(VECTORS))
    assert ids(room, encoded("q", QUERY, artifact)) == best(QUERY, size)
    stored = room._index.collection(artifact).get(["3"])["3"]
    assert np.allclose(stored, first(VECTORS[3], size), atol=1e-6)


def test_a_vector_of_that_size_is_as_good_and_any_other_is_refused(room: Indexer, encoded: MakeDocument) -> None:
    assert ids(room, encoded("q", first(QUERY), A)) == best(QUERY, SHORT)
    for size in (SHORT - 1, DIM + 1):
        wrong = room.search(docs=DocumentArray([encoded("q", np.ones(size), A)]))[0]
        assert rf"embedding must have shape ({SHORT},)" in str(error_of(wrong))


def test_parts_and_examples_are_cut_one_by_one(room: Indexer, encoded: MakeDocument) -> None:
    query = Document(id="q", chunks=[encoded("a", VECTORS[0], A, weight=2.0), encoded("b", VECTORS[1], A)])
    total = 2 * first(VECTORS[0]) + first(VECTORS[1])
    by_hand = [str(i) for i in np.argsort([-float(first(row) @ total) for row in VECTORS])]
    assert ids(room, query) == by_hand
    example = Document(id="q", chunks=[encoded("a", VECTORS[4], A, tags={EXAMPLE_TAG: "positive"})])
    liked = (first(VECTORS[4]) + first(VECTORS[5])) / 2
    order = [str(i) for i in np.argsort([-float(first(row) @ liked) for row in VECTORS]) if i != 5]
    assert ids(room, example, positives=["5"], artifact=A) == order


def test_features_use_the_short_vectors(room: Indexer, encoded: MakeDocument) -> None:
    shown: list[str] = []
    for name in best(QUERY, SHORT):
        if all(float(first(VECTORS[int(name)]) @ first(VECTORS[int(other)])) < 0.5 for other in shown):
            shown.append(name)
    assert ids(room, encoded("q", QUERY, A), hide_duplicates=0.5) == shown
    assert 1 < len(shown) < len(VECTORS)


def test_status_names_what_is_not_as_wanted(room: Indexer) -> None:
    named = [problem for problem in room.problems() if "`dimensions`" in problem]
    assert [OLD in named[0], PLAIN in named[1]] == [True, True]
    assert f"`dimensions` is {SHORT}, and the vectors of {OLD!r} have {DIM} numbers" in named[0]
