"""The executor's four endpoints, in this process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import InvalidDocument, InvalidInput, NotFound
from finetuner.executors.indexer import executor
from finetuner.executors.indexer.executor import Indexer

from .answers import searched

MakeDocument = Callable[..., Document]


def test_index_answers_without_payload(room: Indexer, encoded: MakeDocument) -> None:
    answer = room.index(
        docs=DocumentArray(
            [
                encoded("image", [1, 2], blob=b"jpeg", tags={"price": 5}),
                encoded("text", [2, 1], text="shirt"),
                encoded("pixels", [1, 1], tensor=np.zeros((2, 2, 3), np.uint8)),
            ]
        )
    )
    assert [document.id for document in answer] == ["image", "text", "pixels"]
    for document in answer:
        assert (document.blob, document.tensor, document.embedding) == (b"", None, None)
        assert document.tags[wire.ARTIFACT_TAG] == "model-a"
        assert wire.error_of(document) is None
    assert answer[0].tags["price"] == 5
    assert answer[1].text == "shirt"


def test_index_marks_a_bad_document_and_leaves_a_marked_one(room: Indexer, encoded: MakeDocument) -> None:
    marked = wire.mark_error(Document(id="marked", blob=b"broken"), InvalidDocument("cannot decode"))
    answer = room.index(
        docs=DocumentArray(
            [
                encoded("good", [1, 2], "a"),
                encoded("bad", [1, 2], None, blob=b"jpeg"),
                marked,
            ]
        )
    )
    assert wire.error_of(answer["good"]) is None
    assert isinstance(wire.error_of(answer["bad"]), InvalidDocument)
    assert answer["bad"].blob == b""
    assert str(wire.error_of(answer["marked"])) == "cannot decode"
    assert answer["marked"].blob == b"broken"
    assert wire.read_reply(room.status()[0])["documents"] == 1


def test_search_fills_matches(filled: Indexer, encoded: MakeDocument) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    query = encoded("q", vectors[7] * 3, text="the query")
    answer = searched(filled, docs=DocumentArray([query]), parameters={"limit": 5.0})
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
    best = np.argsort(-cosines)[:5]
    found = answer[0].matches
    assert [match.id for match in found] == [f"d{i}" for i in best]
    np.testing.assert_allclose([match.scores["cosine"].value for match in found], cosines[best], atol=1e-5)
    assert found[0].blob == bytes([7]) * 100
    assert found[0].mime_type == "image/png"
    assert found[0].tags == {"number": 7, wire.ARTIFACT_TAG: "model-a"}
    assert found[0].embedding is None


def test_a_document_goes_out_with_its_own_matches_alone(filled: Indexer, encoded: MakeDocument) -> None:
    query = encoded("q", np.ones(8), adjacency=1, matches=[Document(id="an old one")])
    marked = wire.mark_error(encoded("marked", None, matches=[Document(id="kept")]), InvalidDocument("cannot decode"))
    answer = searched(filled, docs=DocumentArray([marked, query]), parameters={"limit": 3})
    assert [match.id for match in answer[0].matches] == ["kept"]
    assert len(answer[1].matches) == 3
    assert "an old one" not in answer[1].matches[:, "id"]
    assert {match.adjacency for match in answer[1].matches} == {2}, "as DocArray counts"


def test_search_by_default_returns_twenty(filled: Indexer, encoded: MakeDocument) -> None:
    assert len(searched(filled, docs=DocumentArray([encoded("q", np.ones(8))]))[0].matches) == 20


def test_search_without_content(filled: Indexer, encoded: MakeDocument) -> None:
    docs = DocumentArray([encoded("q", np.ones(8))])
    match = searched(filled, docs=docs, parameters={"return_content": False})[0].matches[0]
    assert match.blob == b""
    assert match.mime_type == ""
    assert match.tags[wire.ARTIFACT_TAG] == "model-a"
    assert "number" in match.tags
    assert "cosine" in match.scores


def test_each_query_goes_to_its_own_artifact(room: Indexer, encoded: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded("x", [1, 0], "a"), encoded("y", [1, 0, 0], "b")]))
    answer = searched(
        room,
        docs=DocumentArray(
            [
                encoded("qa", [1, 0], "a"),
                encoded("qc", [1, 0], "c"),
                encoded("qb", [1, 0, 0], "b"),
            ]
        ),
    )
    assert [[match.id for match in query.matches] for query in answer] == [["x"], [], ["y"]]
    assert [query.matches[0].tags[wire.ARTIFACT_TAG] for query in answer[[0, 2]]] == ["a", "b"]
    error = wire.error_of(answer["qc"])
    assert isinstance(error, NotFound)
    assert "vectors of artifact 'c'. Got vectors of 'a', 'b' only" in str(error)


def test_search_in_an_empty_index(room: Indexer, encoded: MakeDocument) -> None:
    error = wire.error_of(searched(room, docs=DocumentArray([encoded("q", [1, 0])]))[0])
    assert isinstance(error, NotFound)
    assert "Got an empty index. Index documents first." in str(error)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": 0}, r"'limit' must be in \[1, 1000\]. Got 0"),
        ({"limit": -1.0}, r"'limit' must be in \[1, 1000\]. Got -1"),
        ({"limit": 1001.0}, r"'limit' must be in \[1, 1000\]. Got 1001"),
        ({"limit": 1e6}, r"'limit' must be in \[1, 1000\]. Got 1000000"),
        ({"limit": 2.5}, "'limit' must be a whole number. Got 2.5"),
        ({"limit": float("inf")}, "'limit' must be a whole number. Got inf"),
        ({"limit": float("nan")}, "'limit' must be a whole number. Got nan"),
        ({"limit": "5"}, "'limit' must be a whole number. Got '5'"),
        ({"limit": True}, "'limit' must be a whole number. Got True"),
        ({"return_content": "no"}, "'return_content' must be true or false. Got 'no'"),
        ({"offset": -1}, r"'offset' must be in \[0, 100000\]. Got -1"),
        ({"score_threshold": 2}, r"'score_threshold' must be a number in \[-1, 1\]. Got 2"),
        ({"score_threshold": "0.5"}, "'score_threshold' must be a number"),
        ({"exact": 1}, "'exact' must be true or false. Got 1"),
        ({"top_k": 5}, "Got top_k"),
        (
            {"dimensions": 4},
            "dimensions is for /encode alone. Got 4 for /search. Leave it out",
        ),
    ],
)
def test_a_wrong_search_parameter_is_one_error(
    filled: Indexer, encoded: MakeDocument, parameters: dict[str, object], message: str
) -> None:
    docs = DocumentArray([encoded("q1", np.ones(8)), encoded("q2", np.ones(8))])
    answer = searched(filled, docs=docs, parameters=parameters)
    assert len(answer) == 1
    error = wire.error_of(answer[0])
    assert isinstance(error, InvalidInput)
    with pytest.raises(InvalidInput, match=message):
        raise error


def test_matches_that_no_message_carries(
    filled: Indexer, encoded: MakeDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "REPLY_BYTES", 10_000)
    docs = DocumentArray([encoded("wide", np.ones(8)), encoded("narrow", np.ones(8))])
    wide, narrow = searched(filled, docs=docs, parameters={"limit": 20})
    assert len(wide.matches) == 20
    assert len(narrow.matches) == 0
    assert "must take 10000 bytes at most" in str(wire.error_of(narrow))
    assert "`return_content` to false" in str(wire.error_of(narrow))


def test_search_with_a_filter_an_offset_and_a_threshold(filled: Indexer, encoded: MakeDocument) -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 8))
    cosines = vectors @ vectors[7] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[7])
    best = [i for i in np.argsort(-cosines) if i < 20 and cosines[i] >= 0]
    assert len(best) > 5
    answer = searched(
        filled,
        docs=DocumentArray([encoded("q", vectors[7])]),
        parameters={"filter": {"number": {"$lt": 20}}, "score_threshold": 0, "offset": 2.0, "exact": True},
    )
    assert [match.id for match in answer[0].matches] == [f"d{i}" for i in best[2:]]


def test_filter_pages_through_documents(filled: Indexer) -> None:
    asked = {"filter": {"number": {"$gte": 10}}, "limit": 8}
    found = [
        document
        for offset in (0, 8, 16, 24)
        for document in filled.filter(parameters={**asked, "offset": offset, "artifact": "model-a"})
    ]
    assert {document.id for document in found} == {f"d{i}" for i in range(10, 30)}
    assert len(found) == 20
    assert {document.blob for document in found} == {bytes([i]) * 100 for i in range(10, 30)}
    light = filled.filter(parameters={**asked, "return_content": False})[0]
    assert light.non_empty_fields == ("id", "tags")
    with pytest.raises(NotFound, match="vectors of artifact 'b'. Got vectors of 'model-a' only"):
        wire.read_reply(filled.filter(parameters={"artifact": "b"})[0])


@pytest.mark.seconds
def test_delete_by_filter(room: Indexer, encoded: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded(f"d{i}", [i, 1], tags={"number": i}) for i in range(2500)]))
    asked = {"filter": {"number": {"$gte": 1}}, "ids": ["d0", "never there"]}
    assert wire.read_reply(room.delete(parameters=asked)[0]) == {"deleted": 2500}
    assert wire.read_reply(room.status()[0])["documents"] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{'number': 1}", r"must be a mapping or its JSON text. Got .*: Expecting property name"),
        ("[1]", r"filter must be a mapping. Got \[1\]"),
        (7, "filter must be a mapping. Got 7"),
        ({"price": {"$lt": 5}}, "must name tags that documents have: number. Got 'price'"),
        ({"numbr": {"$lt": 5}}, "Got 'numbr'. Did you mean 'number'?"),
        ({"number": {"$lte ": 5}}, r"operator must be one of \$eq, .* Got '\$lte '. Did you mean '\$lte'?"),
        ({"number": {"$regex": "a"}}, "Got '\\$regex'"),
        ({"$nor": [{"number": 1}]}, "must be one of \\$and, \\$or, \\$not. Got '\\$nor'. Did you mean '\\$or'?"),
        ({"number": {}}, "filter on 'number' must have an operator. Got {}"),
        ({"number": "cheap"}, "'number' must compare with a number, .* Got the text 'cheap'"),
        ({"number": True}, "must compare with a number, .* Got the boolean 'True'"),
        ({"number": {"$gt": "5"}}, "by order with a number. Got '5'"),
        ({"number": {"$gt": None}}, "by order with a number. Got None"),
        ({"number": {"$in": 5}}, r"\$in must have a list of one or more. Got 5"),
        ({"number": {"$in": []}}, r"must have a list of one or more. Got \[\]"),
        ({"number": {"$exists": 1}}, r"\$exists must be true or false. Got 1"),
        ({"$or": {"number": 1}}, r"\$or must have a list"),
        ({"id": 5}, r"ids in a filter must be strings. Got \[5\]"),
        ({"must": [{"key": "number", "geo_radius": {}}]}, "condition must be one of match, range, .* Got 'geo_radius'"),
        ({"must": [{"key": "number"}]}, "Got 'none'"),
        ({"must": [{"range": {"lt": 5}}]}, "must name its field by 'key'. Got None"),
        ({"must": [{"key": "number", "range": {"less": 5}}]}, "range must be one of gt, gte, lt, lte. Got 'less'"),
        ({"must": [{"key": "number", "match": {"text": "a"}}]}, "match must be one of value, any, except"),
        ({"must": [], "shuold": []}, "must have a list of one or more"),
        ({"must": [{"has_id": ["d1"]}], "shuold": []}, "clause must be .* Got 'shuold'. Did you mean 'should'?"),
        ({"min_should": {"conditions": []}}, "must have conditions and a whole min_count"),
        ({"min_should": {"conditions": [{"has_id": ["d1"]}], "min_count": 0}}, "a whole min_count from 1 on"),
        ({"$and": [{}]}, "each part of a filter must have a condition. Got {}"),
        ({"$or": [{"number": 1}, {"$not": {}}]}, "each part of a filter must have a condition"),
        ('{"number": 1, "number": 2}', "must be a mapping or its JSON text. .* a key comes twice"),
        ({"number": 2**53}, "filter on 'number' must be a number below"),
        ({"number": {"$in": list(range(1001))}}, "1000 conditions at most"),
        ({"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not": {"$not":
         {"$not": {"$not": {"$not": {"$not": {"$not": {"number": 1}}}}}}}}}}}}}}}}}}, "16 levels deep at most"),
    ],
)  # fmt: skip
def test_a_wrong_filter_says_what_is_wrong(filled: Indexer, encoded: MakeDocument, given: object, message: str) -> None:
    search = searched(filled, docs=DocumentArray([encoded("q", np.ones(8))]), parameters={"filter": given})
    answers = [search, filled.filter(parameters={"filter": given}), filled.delete(parameters={"filter": given})]
    for answer in answers:
        assert len(answer) == 1
        with pytest.raises(InvalidInput, match=message):
            wire.read_reply(answer[0])
    assert wire.read_reply(filled.status()[0])["documents"] == 30


def test_fields_that_are_there_by_documents(room: Indexer, encoded: MakeDocument) -> None:
    """A field may have values of two kinds; one that no document has any more may still be named."""
    room.index(docs=DocumentArray([encoded("a", [1, 0], tags={"size": 4}), encoded("b", [0, 1], tags={"size": "L"})]))
    for value, expected in ((4, "a"), ("L", "b")):
        assert room.filter(parameters={"filter": {"size": value}})[:, "id"] == [expected]
    room.delete(parameters={"ids": ["b"]})
    assert len(room.filter(parameters={"filter": {"size": "L"}})) == 0
