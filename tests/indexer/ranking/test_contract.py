"""One contract of the searches beyond the nearest vectors for every engine; brute force is the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.contract.search_parameters import SearchParameters
from finetuner.contract.wire import ARTIFACT_TAG, EXAMPLE_TAG
from finetuner.exceptions import FinetunerError, InvalidDocument, InvalidInput, NotFound
from finetuner.executors.indexer.engines.engine import SearchOptions
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.ranking.cursor import Cursors
from finetuner.executors.indexer.ranking.diversity import diverse, without_duplicates
from finetuner.executors.indexer.ranking.examples import direction
from finetuner.executors.indexer.ranking.fusion import fuse, ordered
from finetuner.executors.indexer.ranking.pipeline import Found, Pipeline
from finetuner.executors.indexer.ranking.texts import Texts
from finetuner.executors.indexer.ranking.words import FieldWords, words
from tests.indexer.engines.qdrant_stand_in import embedded, published_interface

COUNT, DIM = 300, 16
RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(COUNT // 4, DIM))
# four near copies of each product
VECTORS = np.repeat(BASE, 4, axis=0) + 0.03 * RNG.normal(size=(COUNT, DIM))
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
VECTORS = VECTORS.astype(np.float32)
COLOURS = ("red", "green", "blue")
TEXTS = [f"a {COLOURS[i % 3]} thing {'shirt' if i % 2 else 'dress'}" for i in range(COUNT)]
QUERY = RNG.normal(size=DIM)
QUERY /= np.linalg.norm(QUERY)
IDS = [f"d{i:03}" for i in range(COUNT)]


def tags(i: int) -> dict[str, Any]:
    return {"product": f"p{i // 4}", "n": float(i), "colour": COLOURS[i % 3], "sku": f"AB-{i}/X", "sale": i % 5 == 0}


def document(i: int, artifact: str = "a") -> Document:
    return Document(id=IDS[i], embedding=VECTORS[i], text=TEXTS[i], tags={**tags(i), ARTIFACT_TAG: artifact})


@pytest.fixture(scope="module", params=[embedded, published_interface], ids=["edge", "interface"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, Path]]:
    folder = tmp_path_factory.mktemp("ranking") / "index"
    with request.param() as engine:
        opened = Index(folder, engine)
        assert not any(opened.upsert([document(i) for i in range(COUNT)]))
        assert not any(opened.upsert([Document(id="other", embedding=np.ones(4), tags={ARTIFACT_TAG: "b"})]))
        yield opened, folder / "documents.sqlite"
        opened.close()


@pytest.fixture(scope="module")
def index(home: tuple[Index, Path]) -> Index:
    return home[0]


Search = Callable[..., Found]


@pytest.fixture(scope="module")
def search(home: tuple[Index, Path]) -> Search:
    index, file = home
    pipeline = Pipeline(index, Texts(file), Cursors("secret"))

    def run(query: Document | None = None, limit: int = 10, offset: int = 0, filter: Any = None, **asked: Any) -> Found:  # noqa: A002
        given = query or Document(embedding=QUERY, text="a red dress", tags={ARTIFACT_TAG: "a"})
        options = SearchOptions(limit, offset, index.filter(filter))
        checked = pipeline.check(SearchParameters.read(asked, limit, offset))
        found = pipeline.search(given, "a", options, checked)
        facets = pipeline.facets("a", checked, options.filter)
        return Found(found.hits, found.scores, {**found.report, **({"facets": facets} if facets else {})})

    return run


def ids(found: Found) -> list[str]:
    return [hit.id for hit in found.hits]


def best(
    vector: Any = QUERY, passing: Callable[[int], bool] = lambda _: True, without: tuple[str, ...] = ()
) -> list[int]:
    cosines = VECTORS @ np.asarray(vector, np.float32)
    return [i for i in np.argsort(-cosines, kind="stable").tolist() if passing(i) and IDS[i] not in without]


RED = {"filter": {"colour": "red"}}


def red(i: int) -> bool:
    return i % 3 == 0


def test_examples_equal_brute_force(search: Search) -> None:
    liked, disliked = (IDS[4], IDS[9]), (IDS[50],)
    given = {"positives": list(liked), "negatives": list(disliked)}
    for own, query in ((QUERY.astype(np.float32), None), (None, Document())):
        vector = direction(own, [VECTORS[4], VECTORS[9]], [VECTORS[50]])
        found = search(query, **given, **RED)
        assert ids(found) == [IDS[i] for i in best(vector, red, (*liked, *disliked))[:10]]
        assert found.hits[0].score == pytest.approx(float(VECTORS[IDS.index(found.hits[0].id)] @ vector), abs=1e-5)
    parts = [
        Document(embedding=QUERY, tags={ARTIFACT_TAG: "a"}),
        Document(embedding=VECTORS[4] * 3, tags={ARTIFACT_TAG: "a", EXAMPLE_TAG: "positive"}),
        Document(embedding=VECTORS[50], tags={ARTIFACT_TAG: "a", EXAMPLE_TAG: "negative"}),
    ]
    vector = direction(QUERY.astype(np.float32), [VECTORS[4]], [VECTORS[50]])
    assert ids(search(Document(chunks=parts))) == [IDS[i] for i in best(vector)[:10]]


@pytest.mark.parametrize(
    ("query", "asked", "error", "expected"),
    [
        (None, {"positives": ["d001", "nowhere"]}, NotFound, "Got 'nowhere', which is not"),
        (None, {"negatives": ["other"]}, NotFound, "indexed with artifact 'a'"),
        (Document(), {"negatives": ["d001"]}, InvalidInput, "a query or a positive example"),
        (Document(embedding=[1, 0], tags={ARTIFACT_TAG: "a"}), {"positives": ["d001"]}, InvalidDocument, "one size"),
        (
            Document(chunks=[Document(embedding=QUERY, tags={ARTIFACT_TAG: "a", EXAMPLE_TAG: "maybe"})]),
            {"diversity": 0.5},
            InvalidDocument,
            "'positive' or 'negative'",
        ),
        (None, {"group_by": "colr"}, InvalidInput, "group_by must name a tag of the documents.*'colour'"),
        (None, {"order_by": "-colr"}, InvalidInput, "order_by must name a tag"),
        (None, {"facets": {"n": 5}}, InvalidInput, "whose values are numbers"),
        (None, {"facets": {"colour": [5]}}, InvalidInput, "colour"),
        (None, {"hybrid": {"fields": ["n"]}}, InvalidInput, "whose values are of the kind number"),
        (None, {"hybrid": {"fields": ["nothing"]}}, InvalidInput, "a field of hybrid must name a tag"),
        (Document(embedding=QUERY, tags={ARTIFACT_TAG: "a"}), {"hybrid": {"fields": ["text"]}}, InvalidInput, "words"),
        (None, {"cursor": "abc.def"}, InvalidInput, "one that this index has written"),
    ],
)
def test_bad_input_is_refused(
    search: Search, query: Document | None, asked: dict[str, Any], error: type[FinetunerError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        search(query and Document(query, copy=True), **asked)


def test_diversity_equals_brute_force(search: Search) -> None:
    pool = best(passing=red)[:100]
    relevance = (VECTORS[pool] @ QUERY.astype(np.float32)).astype(np.float64)
    expected = [IDS[pool[position]] for position in diverse(relevance, VECTORS[pool], 0.5, 10)]
    assert ids(search(diversity=0.5, **RED)) == expected
    assert ids(search(diversity=0.0, **RED)) == [IDS[i] for i in pool[:10]]
    assert ids(search(diversity=0.5, limit=4, offset=6, **RED)) == expected[6:]


def test_hidden_duplicates_and_groups_show_ten_products(search: Search) -> None:
    order = best()
    shown = without_duplicates(VECTORS[order], 0.95, COUNT)
    found = search(hide_duplicates=0.95)
    assert ids(found) == [IDS[order[position]] for position in list(shown)[:10]]
    assert found.report["hidden"] == sum(list(shown.values())[:10]) == sum(s["hidden"] for s in found.scores.values())
    assert len({i // 4 for i in map(IDS.index, ids(found))}) == 10
    assert ids(search(hide_duplicates=0.95, limit=4, offset=3)) == [IDS[order[p]] for p in list(shown)[3:7]]

    grouped = search(group_by="product", group_size=2)
    products: dict[int, list[int]] = {}
    for i in order:
        if len(products) < 10 or i // 4 in products:
            products.setdefault(i // 4, []).append(i)
    assert ids(grouped) == [IDS[i] for members in products.values() for i in members[:2]]
    assert grouped.report == {"complete": True}
    page = search(group_by="product", group_size=2, limit=3, offset=2)
    assert ids(page) == [IDS[i] for members in list(products.values())[2:5] for i in members[:2]]
    few = search(group_by="colour", candidates=2, limit=3)
    assert few.report == {"complete": False}, "fewer groups than asked for, and more candidates were there"


def test_facets_equal_counts(search: Search) -> None:
    facets = search(facets={"colour": 2, "n": [10, 200], "sale": 5}, filter={"n": {"$lt": 250}}).report["facets"]
    assert facets["colour"]["values"] == [{"value": "red", "count": 84}, {"value": "blue", "count": 83}]
    assert facets["n"]["ranges"] == [
        {"lt": 10, "count": 10}, {"gte": 10, "lt": 200, "count": 190}, {"gte": 200, "count": 50},
    ]  # fmt: skip
    assert facets["sale"]["values"] == [{"value": False, "count": 200}, {"value": True, "count": 50}]


def test_order_by_a_tag(search: Search) -> None:
    pool = best()[:50]
    assert ids(search(order_by="n", candidates=50)) == [IDS[i] for i in sorted(pool)[:10]]
    assert ids(search(order_by="-n", candidates=50)) == [IDS[i] for i in sorted(pool)[::-1][:10]]
    by_colour = sorted(best(), key=lambda i: COLOURS[i % 3])
    assert ids(search(order_by="colour", limit=5)) == [IDS[i] for i in by_colour[:5]]


def test_hybrid_equals_brute_force(search: Search) -> None:
    query = "AB-7/X red dress"
    held = [FieldWords(), FieldWords()]
    for i in range(COUNT):
        held[0].put(IDS[i], [TEXTS[i]])
        held[1].put(IDS[i], [f"AB-{i}/X"])
    scores: dict[str, float] = {}
    for field in held:
        for key, score in field.scores(words(query)).items():
            scores[key] = scores.get(key, 0.0) + score
    pool = [IDS[i] for i in best(passing=red)[:100]]
    bm25 = {key: score for key, score in ordered(scores).items() if red(IDS.index(key))}
    bm25 = dict(list(bm25.items())[:100])
    expected = fuse([(0.6, pool), (0.4, list(bm25))])
    asked = Document(embedding=QUERY, text=query, tags={ARTIFACT_TAG: "a"})
    found = search(asked, hybrid={"fields": ["text", "sku"], "weight": 0.4}, explain=True, **RED)
    assert ids(found) == list(expected)[:10]
    for hit in found.hits:
        shown = found.scores[hit.id]
        assert hit.score == pytest.approx(float(VECTORS[IDS.index(hit.id)] @ QUERY.astype(np.float32)), abs=1e-5)
        assert shown["rrf"] == pytest.approx(expected[hit.id])
        assert shown.get("bm25") == pytest.approx(bm25.get(hit.id))
        assert shown.get("bm25_rank", 0) == (list(bm25).index(hit.id) + 1 if hit.id in bm25 else 0)
        assert shown.get("cosine_rank", 0) == (pool.index(hit.id) + 1 if hit.id in pool else 0)


def test_a_code_is_found_and_other_words_stay_light(search: Search) -> None:
    code = Document(embedding=QUERY, text="the dress ab-201/x please", tags={ARTIFACT_TAG: "a"})
    found = search(code, hybrid={"fields": ["sku", "text"]})
    assert (ids(found)[0], found.report["weight"]) == ("d201", 0.7)
    assert search(hybrid={"fields": ["sku", "text"]}).report["weight"] == 0.1


def test_a_cursor_pages_through_everything_while_documents_come_and_go(index: Index, search: Search) -> None:
    expected, seen, cursor = [IDS[i] for i in best(passing=red)], [], "*"
    for number in range(100):
        found = search(limit=9, cursor=cursor, **RED)
        seen += ids(found)
        if number == 1:  # above the cursor, and one of the next page
            new = Document(id="new", embedding=QUERY, tags={"colour": "red", ARTIFACT_TAG: "a"})
            assert not any(index.upsert([new]))
            index.delete([expected[20]])
        if "cursor" not in found.report:
            break
        cursor = found.report["cursor"]
    missing = expected.pop(20)
    assert seen == expected
    with pytest.raises(InvalidInput, match="of this filter"):
        search(cursor=cursor)
    with pytest.raises(InvalidInput, match="of this query"):
        search(Document(embedding=VECTORS[0], tags={ARTIFACT_TAG: "a"}), cursor=cursor, **RED)
    hybrid = search(Document(embedding=QUERY, text="red", tags={ARTIFACT_TAG: "a"}), hybrid={"fields": ["text"]})
    assert missing not in ids(hybrid), "words of deleted documents are forgotten"
    index.delete(["new"])
    assert not any(index.upsert([document(IDS.index(missing))]))


def test_the_cursor_of_a_dropped_collection_is_refused(index: Index, search: Search) -> None:
    cursor = search(limit=3, cursor="*").report["cursor"]
    index.drop("a")
    assert not any(index.upsert([document(i) for i in range(COUNT)]))
    with pytest.raises(InvalidInput, match="a collection that was dropped"):
        search(limit=3, cursor=cursor)
