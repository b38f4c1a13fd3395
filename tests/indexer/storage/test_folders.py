"""The whole index folder: artifacts apart, reopening, killing, one process only."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from docarray import Document

from finetuner.exceptions import FinetunerServerError, InvalidDocument, InvalidInput
from finetuner.executors.indexer.engines.engine import Hit, SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.storage.packing import unpack

MakeDocument = Callable[..., Document]

UNICODE_IDS = [
    "ü/../x",
    "🦊 👩‍👩‍👧",
    "\x00null",
    "مرحبا",
    "a" * 5000,
    " ",
    "\u00e9",
    "e\u0301",
    "%s'; --",
    "X",
    "x",
]


def hits_of(index: Index, query: object, limit: int = 100) -> list[Hit]:
    """The hits of a query that must be answered."""
    answer = index.search([query], SearchOptions(limit))[0]
    assert isinstance(answer, list), answer
    return answer


def test_two_artifacts_never_meet(index: Index, encoded: MakeDocument) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    artifacts = ["0123456789abcdef01234567", "ViT-B-32::openai"]
    documents = [encoded(f"d{i}", vector, artifacts[i % 2]) for i, vector in enumerate(vectors)]
    assert index.upsert(documents) == [None] * 40
    queries = [encoded("q", vectors[0], artifact) for artifact in artifacts]
    found = index.search(queries, SearchOptions(100))
    for parity, hits in enumerate(found):
        assert isinstance(hits, list)
        assert {hit.id for hit in hits} == {f"d{i}" for i in range(parity, 40, 2)}
    assert index.counts() == dict.fromkeys(artifacts, 20)


def test_artifacts_may_have_different_dimensions(index: Index, encoded: MakeDocument) -> None:
    assert index.upsert([encoded("x", np.ones(4), "a"), encoded("x", np.ones(6), "b")]) == [None, None]
    assert [hit.id for hit in hits_of(index, encoded("q", np.ones(6), "b"))] == ["x"]
    assert (len(index.documents), index.counts()) == (1, {"a": 1, "b": 1})
    assert index.delete(["x"]) == 1
    assert index.counts() == {"a": 0, "b": 0}


def test_any_unicode_id(index: Index, encoded: MakeDocument) -> None:
    vectors = np.eye(len(UNICODE_IDS))
    documents = [encoded(name, vector, text=name) for name, vector in zip(UNICODE_IDS, vectors, strict=True)]
    assert index.upsert(documents) == [None] * len(UNICODE_IDS)
    for name, vector in zip(UNICODE_IDS, vectors, strict=True):
        best = hits_of(index, encoded("q", vector))[0]
        assert best.id == name
        assert best.score == pytest.approx(1)
        assert unpack(index.documents.get([name], content=True)[name]).text == name
    assert index.delete(UNICODE_IDS) == len(UNICODE_IDS)


def test_the_later_of_two_equal_ids_counts(index: Index, encoded: MakeDocument) -> None:
    index.upsert([encoded("x", [1, 0], text="old"), encoded("x", [0, 1], text="new")])
    assert hits_of(index, encoded("q", [0, 1])) == [Hit("x", 1)]
    assert unpack(index.documents.get(["x"], content=True)["x"]).text == "new"


def test_only_the_direction_counts(index: Index, encoded: MakeDocument) -> None:
    scales = [1e-300, 1e-30, 1, 1e30, 1e300]
    index.upsert([encoded(f"{scale}", np.array([3, 4]) * scale) for scale in scales])
    for scale in scales:
        hits = hits_of(index, encoded("q", np.array([3, 4]) * scale))
        np.testing.assert_allclose([hit.score for hit in hits], np.ones(5), atol=1e-6)


def test_reopened_holds_the_same(tmp_path: Path, encoded: MakeDocument) -> None:
    first = Index(tmp_path)
    first.upsert([encoded("x", [1, 2], "a", text="kept"), encoded("y", [1, 2, 3], "b")])
    first.delete(["y"])
    before = hits_of(first, encoded("q", [2, 1], "a"))
    first.close()
    second = Index(tmp_path)
    assert hits_of(second, encoded("q", [2, 1], "a")) == before
    status = second.status()
    assert status["collections"] == [
        {"artifact": "a", "dim": 2, "count": 1, "indexed": 0},
        {"artifact": "b", "dim": 3, "count": 0, "indexed": 0},
    ]
    assert status["documents"] == 1
    on_disk = sum(path.lstat().st_blocks * 512 for path in tmp_path.rglob("*"))
    assert 0 < status["bytes"] <= on_disk, "holes do not count, but where the file system has none"
    second.close()


def test_an_artifact_id_is_never_a_path(tmp_path: Path, encoded: MakeDocument) -> None:
    index = Index(tmp_path / "index")
    assert index.upsert([encoded("x", [1], "../../elsewhere")]) == [None]
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]
    assert list(index.counts()) == ["../../elsewhere"]
    index.close()


def test_a_half_made_collection_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".new-0123" / "shard").mkdir(parents=True)
    index = Index(tmp_path)
    assert not (tmp_path / ".new-0123").exists()
    assert index.counts() == {}
    index.close()


def test_a_second_index_on_the_folder_is_refused(tmp_path: Path) -> None:
    first = Index(tmp_path)
    with pytest.raises(InvalidInput, match=r"one process only\. Got '.*', which process \d+ has open"):
        Index(tmp_path)
    first.close()
    Index(tmp_path).close()


OPENER = """
import sys, pathlib
from finetuner.executors.indexer.storage.locks import FolderLock
FolderLock(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.process
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = Index(tmp_path)
    command = [sys.executable, "-c", OPENER, str(tmp_path)]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "index folder must be open in one process only" in other.stderr
    first.close()


def test_a_failed_opening_lets_go_of_the_folder(tmp_path: Path, encoded: MakeDocument) -> None:
    index = Index(tmp_path)
    index.upsert([encoded("x", [1, 2])])
    index.close()
    file = tmp_path / "documents.sqlite"
    kept = file.read_bytes()
    file.write_bytes(b"no database" * 100)
    with pytest.raises(FinetunerServerError, match="must be an intact SQLite file"):
        Index(tmp_path)
    file.write_bytes(kept)
    Index(tmp_path).close()


def test_searches_beside_writes(index: Index, encoded: MakeDocument) -> None:
    vectors = np.random.default_rng(0).normal(size=(121, 16))
    index.upsert([encoded("first", vectors[0])])
    done = threading.Event()
    failures: list[object] = []

    def search() -> None:
        while not done.is_set():
            answer = index.search([encoded("q", vectors[0])], SearchOptions(10))[0]
            if not isinstance(answer, list) or answer[0].id != "first":
                failures.append(answer)

    searcher = threading.Thread(target=search)
    searcher.start()
    for start in range(1, 121, 20):
        index.upsert([encoded(f"d{i}", vectors[i]) for i in range(start, start + 20)])
    done.set()
    searcher.join()
    assert failures == []
    assert index.counts() == {"model-a": 121}


def cut(folder: Path, name: str) -> None:
    """Cut a file of the engine in half."""
    (file,) = list(folder.rglob(name))[:1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "name", ["collection.json", "edge.json", "edge_config.json", "segment.json", "version.info", "status.dat"]
)
def test_damaged_files_are_named(tmp_path: Path, encoded: MakeDocument, name: str) -> None:
    index = Index(tmp_path)
    index.upsert([encoded("x", [1, 2], tags={"n": 1})])
    index.close()
    cut(tmp_path, name)
    index = Index(tmp_path)
    (problem,) = index.problems
    assert "is set aside: it must hold collection.json and the engine's files. Got: " in problem
    assert "\n" not in problem
    assert index.counts() == {}
    index.close()


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """One index for all bad documents: none of them may leave anything behind."""
    opened = Index(tmp_path_factory.mktemp("neighbours"))
    yield opened
    assert (len(opened.documents), opened.counts()) == (2, {"a": 2})
    opened.close()


@pytest.mark.parametrize(
    ("embedding", "artifact", "message"),
    [
        (None, "a", "Got neither content nor embedding. Send text"),
        ([1.0, 2.0], None, "have the tag 'finetuner_artifact'.* Got no such tag"),
        ([1.0, 2.0], "", "have the tag 'finetuner_artifact'.* Got ''"),
        ([1.0, 2.0, 3.0], "a", r"must have shape \(2,\), as all others of artifact 'a'. Got \(3,\)"),
        ([1.0, float("nan")], "a", "must be finite. Got nan at position 1"),
        ([float("-inf"), 1.0], "a", "must be finite. Got -inf at position 0"),
        ([0.0, 0.0], "a", "Got a zero vector"),
        ([[1.0, 2.0], [3.0, 4.0]], "a", r"one vector of 1 to 65536 numbers. Got shape \(2, 2\)"),
        (np.zeros(0), "a", r"Got shape \(0,\)"),
        (np.array(["x", "y"]), "a", "dense vector of numbers. Got a ndarray"),
    ],
)
def test_a_bad_document_is_named_and_its_neighbours_are_stored(
    neighbours: Index, encoded: MakeDocument, embedding: object, artifact: str | None, message: str
) -> None:
    good = [encoded("left", [1, 0], "a"), encoded("right", [0, 1], "a")]
    bad = encoded("bad", embedding, artifact)
    left, error, right = neighbours.upsert([good[0], bad, good[1]])
    assert (left, right) == (None, None)
    assert isinstance(error, InvalidDocument)
    with pytest.raises(InvalidDocument, match=message):
        raise error
    # the same as a query
    hits, refused = neighbours.search([good[0], bad], SearchOptions(5))
    assert isinstance(hits, list)
    assert hits[0].id == "left"
    assert isinstance(refused, InvalidDocument)


def test_content_that_no_encoder_took(index: Index, encoded: MakeDocument) -> None:
    errors = index.upsert([encoded("t", None, None, text="hello"), encoded("u", None, None, uri="a.glb")])
    assert "Got text that no encoder of this Flow accepted" in str(errors[0])
    assert "Got uri that no encoder of this Flow accepted" in str(errors[1])
