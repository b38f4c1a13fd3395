"""One contract for every engine; brute force in numpy is the oracle.

The embedded engine, Qdrant's published REST interface before qdrant-client's local mode, and a real server where
$QDRANT_URL names one.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from finetuner.exceptions import FinetunerServerError
from finetuner.executors.indexer.engines import edge, engine
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import (
    BINARY,
    INT8,
    Collection,
    Engine,
    Point,
    SearchOptions,
    Spread,
    point_id,
)  # fmt: skip
from finetuner.executors.indexer.engines.server import ServerEngine
from finetuner.executors.indexer.retrieval.filters import parse_filter
from finetuner.executors.indexer.storage.fields import Field, fields_of, filterable
from finetuner.executors.indexer.storage.known_fields import KnownFields
from tests.indexer.engines.qdrant_stand_in import embedded, published_interface, qdrant_stand_in

DIM = 24
COUNT = 400
COLOURS = ("red", "green", "blue")


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    """Random directions, (count, dim) float32, L2-normalised."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def tags(number: int) -> dict[str, Any]:
    """Tags of every kind, some documents without some."""
    made: dict[str, Any] = {
        "number": float(number),
        "colour": COLOURS[number % 3],
        "sale": number % 2 == 0,
        "size": {"eu": 30.0 + number % 10},
        "labels": [f"l{number % 4}", f"l{number % 5}"],
        "größe in cm": float(number % 7),
    }
    if number % 3 == 1:  # the other form of the same field
        made["size.eu"] = made.pop("size")["eu"]
    return made if number % 10 else {key: value for key, value in made.items() if key != "colour"}


def size(made: Mapping[str, Any]) -> float:
    return float(made["size"]["eu"] if "size" in made else made["size.eu"])


VECTORS = unit_vectors(COUNT)
TAGS = [tags(number) for number in range(COUNT)]
FIELDS: list[Field] = [field for entry in TAGS for field in fields_of(entry)]


def points(numbers: list[int] | range = range(COUNT)) -> list[Point]:
    return [Point(f"d{i}", VECTORS[i], filterable(TAGS[i])) for i in numbers]


@contextmanager
def real_server() -> Iterator[Engine]:
    if "QDRANT_URL" not in os.environ:
        pytest.skip("needs a Qdrant server: set QDRANT_URL")
    yield ServerEngine(os.environ["QDRANT_URL"])


@pytest.fixture(params=[embedded, published_interface, real_server], ids=["edge", "interface", "server"])
def kept_by(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with request.param() as engine:
        yield engine


@pytest.fixture
def empty(kept_by: Engine, tmp_path: Path) -> Iterator[Collection]:
    """A collection with the fields' indexes."""
    name = f"test-{uuid.uuid4().hex}"
    kept_by.create(tmp_path / "one", name, DIM)
    collection = kept_by.open(tmp_path / "one", name, DIM)
    for path, kind in KnownFields(FIELDS).indexed().items():
        collection.index_field(path, kind)
    yield collection
    collection.close()
    kept_by.drop(name)


@pytest.fixture
def filled(empty: Collection) -> Collection:
    empty.upsert(points())
    return empty


def test_search_equals_brute_force(filled: Collection) -> None:
    queries = unit_vectors(32, seed=1)
    cosines = queries @ VECTORS.T  # (32, 400)
    for limit, offset in ((1, 0), (7, 0), (7, 5), (500, 0), (5, 398), (5, 1000)):
        found = filled.search(queries, SearchOptions(limit, offset))
        for hits, row in zip(found, cosines, strict=True):
            best = np.argsort(-row)[offset : offset + limit]
            assert [hit.id for hit in hits] == [f"d{i}" for i in best]
            np.testing.assert_allclose([hit.score for hit in hits], row[best], atol=1e-5)


def test_a_score_threshold_is_the_lowest_cosine(filled: Collection) -> None:
    query = unit_vectors(1, seed=1)
    cosines = (query @ VECTORS.T)[0]
    found = filled.search(query, SearchOptions(500, score_threshold=0.25))[0]
    assert {hit.id for hit in found} == {f"d{i}" for i in np.flatnonzero(cosines >= 0.25)}


FILTERS: list[tuple[Any, Any]] = [
    ({"number": {"$lt": 50}}, lambda t: t["number"] < 50),
    ({"number": {"$gte": 50, "$lte": 60.5}}, lambda t: 50 <= t["number"] <= 60.5),
    ({"number": 7}, lambda t: t["number"] == 7),
    ({"number": {"$in": [7, 9.0]}}, lambda t: t["number"] in (7, 9)),
    ({"colour": "red"}, lambda t: t.get("colour") == "red"),
    ({"colour": {"$ne": "red"}}, lambda t: t.get("colour") != "red"),
    ({"colour": {"$nin": ["red", "green"]}}, lambda t: t.get("colour") not in ("red", "green")),
    ({"colour": {"$exists": False}}, lambda t: "colour" not in t),
    ({"colour": {"$exists": True}, "number": {"$gt": 300}}, lambda t: "colour" in t and t["number"] > 300),
    ({"sale": True}, lambda t: t["sale"]),
    ({"sale": {"$ne": True}}, lambda t: not t["sale"]),
    ({"size.eu": 33}, lambda t: size(t) == 33),
    ({"tags__size__eu": {"$gt": 37}}, lambda t: size(t) > 37),
    ({"größe in cm": {"$lte": 1}}, lambda t: t["größe in cm"] <= 1),
    ({"labels": "l3"}, lambda t: "l3" in t["labels"]),
    ({"$or": [{"number": 3}, {"colour": "blue", "sale": False}]},
     lambda t: t["number"] == 3 or (t.get("colour") == "blue" and not t["sale"])),
    ({"$not": {"$and": [{"sale": True}, {"number": {"$gt": 9}}]}}, lambda t: not (t["sale"] and t["number"] > 9)),
    ({"id": {"$in": ["d1", "d2", "nobody"]}}, lambda t: t["number"] in (1, 2)),
    ({"must": [{"key": "number", "range": {"lt": 50}}], "must_not": [{"key": "colour", "match": {"value": "red"}}]},
     lambda t: t["number"] < 50 and t.get("colour") != "red"),
    ({"should": [{"key": "colour", "match": {"any": ["red", "blue"]}}, {"has_id": ["d1"]}]},
     lambda t: t.get("colour") in ("red", "blue") or t["number"] == 1),
    ({"must": [{"key": "labels", "match": {"except": ["l0", "l1"]}}, {"is_empty": {"key": "colour"}}]},
     lambda t: {*t["labels"]} - {"l0", "l1"} and "colour" not in t),
    ({"min_should": {"conditions": [{"key": "sale", "match": {"value": True}},
                                    {"key": "size.eu", "match": {"value": 32}},
                                    {"must": [{"key": "number", "range": {"lte": 100}}]}], "min_count": 2}},
     lambda t: (t["sale"] + (size(t) == 32) + (t["number"] <= 100)) >= 2),
    ('{"number": {"$lt": 5}}', lambda t: t["number"] < 5),
    ({"size.eu": {"$gte": 33}}, lambda t: size(t) >= 33),
    ({"size.eu": {"$ne": 33}}, lambda t: size(t) != 33),
    ({"size.eu": {"$in": [31, 34]}}, lambda t: size(t) in (31, 34)),
    ({"size__eu": 37, "number": {"$lt": 300}}, lambda t: size(t) == 37 and t["number"] < 300),
    ({"$or": [{"size.eu": {"$exists": False}}, {"number": 3}]}, lambda t: t["number"] == 3),
    ({"size.eu": {"$exists": True}, "number": 4}, lambda t: t["number"] == 4),
    ({"must": [{"is_empty": {"key": "colour"}}], "must_not": [{"is_empty": {"key": "size.eu"}}]},
     lambda t: "colour" not in t),
]  # fmt: skip


@pytest.mark.seconds
def test_filters_pass_what_python_says(filled: Collection) -> None:
    query, known = unit_vectors(1, seed=3), KnownFields(FIELDS)
    cosines = (query @ VECTORS.T)[0]
    for given, passes in FILTERS:
        expected = [i for i in np.argsort(-cosines) if passes(TAGS[i])]
        assert 0 < len(expected) < COUNT, given
        condition = parse_filter(given, known)
        assert condition is not None
        hits = filled.search(query, SearchOptions(COUNT, filter=condition))[0]
        assert [hit.id for hit in hits] == [f"d{i}" for i in expected], given
        assert filled.count(condition) == len(expected), given


def test_upsert_replaces_vector_and_tags(empty: Collection) -> None:
    old, new = unit_vectors(2)
    empty.upsert([Point("x", old, {"number": 1.0})])
    empty.upsert([Point("x", new, {"number": 2.0})])
    assert len(empty) == 1
    np.testing.assert_allclose(empty.get(["x"])["x"], new, atol=1e-6)
    assert empty.search(new[None], SearchOptions(5))[0][0].score == pytest.approx(1, abs=1e-5)
    assert empty.count(parse_filter({"number": 1}, KnownFields(FIELDS))) == 0


def test_delete_passes_over_ids_that_are_not_there(filled: Collection) -> None:
    filled.delete(["d1", "never there"])
    filled.delete(["never there"])
    assert len(filled) == COUNT - 1
    assert list(filled.get(["d0", "d1"])) == ["d0"]


def test_scroll_meets_everything_once(filled: Collection) -> None:
    seen: dict[str, Point] = {}
    after, pages = None, 0
    while pages == 0 or after is not None:
        page, after = filled.scroll(after, 70)
        assert not seen.keys() & {point.id for point in page}
        seen |= {point.id: point for point in page}
        pages += 1
    assert (len(seen), pages) == (COUNT, 6)
    np.testing.assert_allclose(seen["d17"].vector, VECTORS[17], atol=1e-6)
    assert seen["d17"].tags == filterable(TAGS[17])
    passing, _ = filled.scroll(None, 10, parse_filter({"number": {"$lt": 3}}, KnownFields(FIELDS)), vectors=False)
    assert {point.id for point in passing} == {"d0", "d1", "d2"}
    assert passing[0].vector.size == 0


def test_empty_collection_finds_nothing(empty: Collection) -> None:
    assert empty.search(unit_vectors(2), SearchOptions(10)) == [[], []]
    assert empty.scroll(None, 10) == ([], None)
    assert (len(empty), empty.graph()) == (0, engine.GraphState(0, 0))


def test_reopened_holds_the_same(kept_by: Engine, tmp_path: Path) -> None:
    name = f"test-{uuid.uuid4().hex}"
    kept_by.create(tmp_path / "one", name, DIM)
    made = kept_by.open(tmp_path / "one", name, DIM)
    made.upsert(points(range(50)))
    made.close()
    opened = kept_by.open(tmp_path / "one", name, DIM)
    assert (opened.dim, len(opened)) == (DIM, 50)
    np.testing.assert_allclose(opened.get(["d17"])["d17"], VECTORS[17], atol=1e-6)
    opened.close()
    kept_by.drop(name)


def test_point_ids_never_change() -> None:
    # Other numbers here mean that no index written before can be updated any more.
    assert point_id("d1") == "33daa405-dcfb-53f5-bdfc-f5d201fa7753"
    assert point_id("\u00e9") != point_id("e\u0301")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FinetunerServerError, match=r"Qdrant server http://127.0.0.1:9 must answer. Got"):
        ServerEngine("http://127.0.0.1:9").create(tmp_path / "one", "x", DIM)


def test_a_collection_is_spread_over_a_cluster_as_asked(tmp_path: Path) -> None:
    with qdrant_stand_in() as server:
        ServerEngine(server.url).create(tmp_path / "one", "one", DIM)
        ServerEngine(server.url, spread=Spread(6, 3, 2)).create(tmp_path / "two", "two", DIM)
        names = ("shard_number", "replication_factor", "write_consistency_factor")
        made = [[body.get(name) for name in names] for called, body in server.asked if called == "create_collection"]
        assert made == [[None, 1, 1], [6, 3, 2]]
        with pytest.raises(FinetunerServerError, match="replication_factor 4 of 3 nodes"):
            ServerEngine(server.url, spread=Spread(6, 4, 2)).create(tmp_path / "three", "three", DIM)
        assert server.faults == []


def test_a_collection_has_the_codes_that_are_asked_for(tmp_path: Path) -> None:
    with qdrant_stand_in() as server:
        for kind in ("", INT8, BINARY):
            kept = ServerEngine(server.url, kind)
            kept.create(tmp_path / f"of {kind}", f"of-{kind}", DIM)
            collection = kept.open(tmp_path / f"of {kind}", f"of-{kind}", DIM)
            collection.upsert([Point("a", unit_vectors(1, seed=1)[0], {})])
            assert [hit.id for hit in collection.search(unit_vectors(1, seed=1), SearchOptions(1))[0]] == ["a"]
        made = [body.get("quantization_config") for called, body in server.asked if called == "create_collection"]
        assert [next(iter(each), None) if each else None for each in made] == [None, "scalar", "binary"]
        assert server.faults == []


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_server_that_refuses_is_named_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with qdrant_stand_in() as server:
        server.key = "s3cret"
        monkeypatch.setenv("QDRANT_API_KEY", "wrong")
        with pytest.raises(FinetunerServerError, match=r"Got UnexpectedResponse: .*401.*and \$QDRANT_API_KEY"):
            ServerEngine(server.url).create(tmp_path / "one", "one", DIM)
        monkeypatch.setenv("QDRANT_API_KEY", "s3cret")
        kept = ServerEngine(server.url)
        kept.create(tmp_path / "two", "one", DIM)
        collection = kept.open(tmp_path / "two", "one", DIM)
        collection.upsert(points(range(5)))
        server.down = True
        for call in (lambda: collection.upsert(points(range(5, 9))), collection.count):
            with pytest.raises(FinetunerServerError, match="503"):
                call()
        server.down = False
        assert collection.count() == 5
        assert server.faults == []


def test_the_stand_in_sees_what_the_interface_does_not_allow() -> None:
    with qdrant_stand_in() as server:
        for path, body in (("/collections/one", {"vectors": {"size": 0, "distance": "Cosine"}}), ("/nowhere", {})):
            httpx.put(server.url + path, json=body)
        httpx.put(f"{server.url}/collections/two?wat=1", json={"vectors": {"size": 4, "distance": "Dot"}, "shards": 2})
        assert [fault.partition(",")[0] for fault in server.faults if "nowhere" not in fault] == [
            "/collections/{collection_name}",
            "/collections/{collection_name}: parameter wat=1",
            "/collections/{collection_name}",
        ]


def edge_collection(folder: Path, monkeypatch: pytest.MonkeyPatch, quantise: str = "") -> Collection:
    """One that is large enough for a graph with few vectors."""
    for module in (edge, engine):
        monkeypatch.setattr(module, "EXACT_BELOW", 200)
    kept = EdgeEngine(quantise)
    if not folder.exists():
        kept.create(folder, "", DIM)
    return kept.open(folder, "", DIM)


@pytest.mark.parametrize("quantise", ["", INT8, BINARY])
@pytest.mark.process
def test_a_graph_finds_what_brute_force_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantise: str) -> None:
    collection = edge_collection(tmp_path / "one", monkeypatch, quantise)
    vectors, queries = unit_vectors(2000, seed=5), unit_vectors(50, seed=6)
    collection.upsert([Point(str(i), vector, {}) for i, vector in enumerate(vectors)])
    assert collection.graph().indexed == 0
    collection.optimise()
    assert collection.graph().indexed >= 1000
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = collection.search(queries, SearchOptions(10))
    same = [len({int(hit.id) for hit in hits} & set(row)) for hits, row in zip(found, best, strict=True)]
    assert np.mean(same) / 10 >= (0.5 if quantise == BINARY else 0.98)  # 24 bits tell little of made vectors
    for query, hits in zip(queries, found, strict=True):  # the full vectors rank
        assert [hit.score for hit in hits] == pytest.approx([query @ vectors[int(hit.id)] for hit in hits], abs=1e-5)
    exact = collection.search(queries, SearchOptions(10, exact=True))
    assert [[int(hit.id) for hit in hits] for hits in exact] == best.tolist()
    collection.close()


@pytest.mark.process
@pytest.mark.slow
def test_what_is_written_while_a_graph_is_built_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = edge_collection(tmp_path / "one", monkeypatch)
    vectors = unit_vectors(3000, seed=5)
    collection.upsert([Point(str(i), vector, {"n": float(i)}) for i, vector in enumerate(vectors)])
    built = threading.Thread(target=collection.optimise)
    built.start()
    written: Mapping[str, NDArray[np.float32]] = {}
    number = 0
    while built.is_alive() or number < 3:
        new = unit_vectors(10, seed=100 + number)
        collection.upsert([Point(f"new {number}-{i}", vector, {}) for i, vector in enumerate(new)])
        collection.delete([str(number)])
        written = {**written, **{f"new {number}-{i}": vector for i, vector in enumerate(new)}}
        assert collection.search(new[:1], SearchOptions(1))[0][0].id == f"new {number}-0"
        number += 1
    built.join()
    for state in (collection, None):
        opened = state or edge_collection(tmp_path / "one", monkeypatch)
        assert len(opened) == 3000 - number + len(written)
        assert opened.get([str(i) for i in range(number)]) == {}
        kept = opened.get(list(written))
        assert kept.keys() == written.keys()
        for key, vector in written.items():
            np.testing.assert_allclose(kept[key], vector, atol=1e-6)
        opened.close()
    assert len(list((tmp_path / "one").glob("shard-*"))) == 1


@pytest.mark.process
def test_a_graph_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = edge_collection(tmp_path / "one", monkeypatch)
    collection.upsert([Point(str(i), vector, {}) for i, vector in enumerate(unit_vectors(3000))])
    failures: list[Exception] = []

    def optimise() -> None:
        try:
            collection.optimise()
        except FinetunerServerError as error:
            failures.append(error)

    building = threading.Thread(target=optimise)
    building.start()
    while building.is_alive():
        collection.stop()
        building.join(0.01)
    assert "the graph's build must end with exit code 0. Got -9" in str(failures[0])
    assert len(list((tmp_path / "one").glob("shard-*"))) == 1
    assert len(collection) == 3000
    collection.close()
