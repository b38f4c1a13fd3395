"""Refused bodies of the REST API, and numbers in answers that JSON cannot hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetuner.contract.wire import MAX_CONTROL_BYTES
from finetuner.exceptions import InvalidInput
from finetuner.executors.gateway.flow.body import CONTENTS, CONTROL, DOCUMENTS, MAX_DEPTH, Limits, parse_json
from finetuner.executors.gateway.rest.answers import answer
from tests import plain_http
from tests.gateway.conftest import ToyFlow

TEXT = {"text": "dress"}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("encode", {}, "documents is required. Got none. Add it."),
        ("encode", {"documents": []}, "documents must have at least 1 items"),
        ("encode", {"documents": [TEXT] * 1025}, "documents must have at most 1024 items"),
        ("encode", {"documents": [{"txt": "a"}]}, "documents[0].txt is not a field of this request. Leave it out."),
        ("encode", {"documents": [TEXT, {"text": "a", "uri": "b"}]}, "documents[1] must have one of text,"),
        ("encode", {"documents": [{"id": "a"}]}, "and has none. Set one"),
        ("encode", {"documents": [{"text": 5}]}, "documents[0].text must be a string. Got 5."),
        ("encode", {"documents": [{"blob": "no base64!"}]}, "documents[0].blob must be base64. Got 'no base64!'."),
        ("encode", {"documents": [{"text": "a", "tags": {"finetuner_error": 1}}]}, "must not have the tag"),
        ("encode", {"documents": [TEXT], "artifact": ""}, "artifact must have at least 1 characters. Got ''."),
        ("search", {"queries": [TEXT], "limit": "5"}, "limit must be a whole number. Got '5'."),
        ("search", {"queries": [TEXT], "limit": True}, "limit must be a whole number. Got True."),
        ("search", {"queries": [TEXT], "limit": 1001}, "limit must be less than or equal to 1000. Got 1001."),
        ("search", {"queries": [TEXT], "exact": "yes"}, "exact must be true or false. Got 'yes'."),
        (
            "search",
            {"queries": [{"chunks": [{"text": "a", "weight": 1e9}]}]},
            "queries[0].chunks[0].weight must be less",
        ),
        ("search", {"negatives": [{"id": "a"}]}, "queries is required. Got none. Add it, or positives."),
        ("search", {"positives": [{"id": "a", "text": "b"}]}, "positives[0] must have one of id, text, blob, uri"),
        ("search", {"queries": [TEXT], "diversity": 2}, "diversity must be less than or equal to 1. Got 2."),
        ("search", {"queries": [TEXT], "group_size": 2}, "group_size must come with group_by."),
        ("search", {"positives": [{"id": "a"}], "min_probability": 0.5}, "min_probability must come without positives"),
        ("search", {"queries": [TEXT], "hybrid": {"fields": []}}, "hybrid must list 1 to 16 `fields`"),
        ("search", {"queries": [TEXT], "cursor": "*", "offset": 3}, "cursor must come without"),
        ("embeddings", {"input": [[1, 100300]]}, "0 to 100255, and holds 100300. LangChain sends texts with"),
        ("embeddings", {"input": [-1]}, "0 to 100255, and holds -1."),
        ("embeddings", {"input": [[]]}, "must be a text, its token ids"),
        ("embeddings", {"input": [True]}, "must be a text, its token ids"),
        ("embeddings", {"input": [1.5]}, "must be a text, its token ids"),
        (
            "embeddings",
            {"input": "a", "dimensions": 5},
            "dimensions must be 4, the size of the",
        ),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions must be greater than or equal to 1. Got 0."),
        ("embeddings", {"input": "a", "user": 5}, "user must be a string. Got 5."),
        ("embeddings", {"input": []}, "must be 1 to 2048 texts and images"),
        ("embeddings", {"input": "a", "top_k": 5}, "top_k is not a field of this request"),
        ("evaluate", {"data": "../x"}, "data: string does not match regex"),
    ],
)
def test_a_wrong_body_is_refused_in_a_sentence(
    open_flow: ToyFlow, path: str, body: dict[str, Any], expected: str
) -> None:
    response = plain_http.post(f"{open_flow.http}/v1/{path}", json=body)
    assert response.status_code == 422
    assert expected in response.json()["detail"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("path", ["/v1/encode", "/v1/embeddings", "/api/v1/experiments/"])
def test_another_content_type_is_named(open_flow: ToyFlow, path: str, kind: str) -> None:
    headers = {"content-type": kind}  # the first is curl's, if it is not told
    answer = plain_http.post(open_flow.http + path, content=b'{"name": "a"}', headers=headers)
    assert answer.status_code == 422
    assert f"Content-Type must be application/json. Got '{kind}'. Add the header" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{broken", "must be JSON"),
        (b'{"input": NaN}', "input must be finite. Got nan."),
        (b'{"input": "a", "model": 1e999}', "model must be finite. Got inf."),
        (b'{"input": ' + b"9" * 400 + b"}", "input must be a number below 2**53"),
        (b'{"input": ["a", {"b": 9007199254740993}]}', "input[1].b must be a number below 2**53"),
        (b'{"input": "\\ud800"}', "input must be whole characters. Got half of one"),
        (b'{"input": "a", "input": "b"}', "the key 'input' comes twice in one object"),
        (b'{"input": ' + b"[" * 30 + b"]" * 30 + b"}", "at most 24 levels"),
        (b'[["input", "a"]]', "The body must be an object. Got list."),
        (b"null", "The body must be an object. Got NoneType."),
        (b"", "body is required"),
    ],
)
def test_values_that_protobuf_cannot_carry_are_refused(open_flow: ToyFlow, body: bytes, expected: str) -> None:
    response = plain_http.post(
        f"{open_flow.http}/v1/embeddings", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert expected in response.json()["detail"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"NaN", "documents[1].tags.price of document 'b' must be finite. Got nan. Leave it out."),
        (b"-Infinity", "documents[1].tags.price of document 'b' must be finite"),
        (b"9007199254740993", "documents[1].tags.price of document 'b' must be a number below 2**53"),
        (b'["\\udc00"]', "documents[1].tags.price[0] of document 'b' must be whole characters"),
    ],
)
def test_the_document_of_a_wrong_value_is_named(open_flow: ToyFlow, value: bytes, expected: str) -> None:
    body = b'{"documents": [{"id": "a", "text": "x"}, {"id": "b", "text": "x", "tags": {"price": ' + value + b"}}]}"
    headers = {"content-type": "application/json"}
    response = plain_http.post(f"{open_flow.http}/v1/encode", content=body, headers=headers)
    assert response.status_code == 422
    assert expected in response.json()["detail"]
    response = plain_http.post(f"{open_flow.http}/encode", content=body.replace(b"documents", b"data"), headers=headers)
    assert response.status_code == 422
    assert expected.replace("documents", "data") in response.json()["detail"]


def test_a_body_without_documents_has_a_smaller_limit(open_flow: ToyFlow) -> None:
    response = plain_http.post(f"{open_flow.http}/v1/evaluate", json={"data": "x", "model": "y" * MAX_CONTROL_BYTES})
    assert response.status_code == 413
    assert str(MAX_CONTROL_BYTES) in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "limits"),
    [
        ("encode", DOCUMENTS),
        ("runs/list", CONTROL),
        ("v1/encode", CONTENTS),
        ("v1/search", CONTENTS),
        ("v1/embeddings", CONTENTS),
        ("v1/evaluate", CONTROL),
        ("v1/index/filter", CONTROL),
        ("v1/index/delete", CONTROL),
        ("v1/feedback", CONTENTS),
        ("v1/feedback/list", CONTROL),
        ("api/v1/experiments", CONTROL),
        ("v2/rpc/artifact.list", CONTROL),
    ],
)
def test_lists_and_objects_are_counted_before_they_are_parsed(open_flow: ToyFlow, path: str, limits: Limits) -> None:
    headers = {"content-type": "application/json"}
    for body in (b'{"a": [' + b"[]," * limits.containers + b"{}]}", b'{"a": [' + b"1," * (limits.items + 1) + b"1]}"):
        answer = plain_http.post(f"{open_flow.http}/{path}", content=body, headers=headers)
        assert answer.status_code == (413 if len(body) > MAX_CONTROL_BYTES and limits == CONTROL else 422)
        text = answer.text
        assert f"may hold {limits.containers} lists and objects, and {limits.items} items" in text or "bytes" in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'["[[[[", "{{{{", ",,,,,,,,"]', None),
        (b'["\\"[[[[", "\\\\", {"a\\\\": 1}, 2]', None),
        (b"[1, 2, 3, 4, 5]", None),
        (b"[1, 2, 3, 4, 5, 6]", "may hold 3 lists and objects, and 4 items"),
        (b"[[], [], []]", "may hold 3 lists"),
        (b'[[], "\\\\", [], []]', "may hold 3 lists"),
        (b'[["\\"", [], []]]', "may hold 3 lists"),
        (b'[",,,,,' + b'""' * 99, "without commas between them"),
        (b'"[[[[[' + b"\\" * 99, "must be JSON"),
    ],
)
def test_what_stands_in_strings_does_not_count(body: bytes, expected: str | None) -> None:
    limits = Limits(3, 4)
    if expected is None:
        assert parse_json(body, limits) == json.loads(body)
    else:
        with pytest.raises(InvalidInput, match=expected):
            parse_json(body, limits)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/datasets/..%2Fx", 404),  # decoded before it is routed: no such path
        ("GET", "/v1/datasets/-x", 422),
        ("GET", "/v1/runs?size=1001", 422),
        ("GET", "/v1/runs?page=0", 422),
        ("DELETE", "/api/v1/experiments/a%20b", 422),
        ("GET", "/api/v1/experiments/a/runs/b/logstream", 404),
        ("POST", "/v1/evaluate", 422),
        ("POST", "/v1/nothing", 404),
    ],
)
def test_wrong_paths_are_answered_in_json(open_flow: ToyFlow, method: str, path: str, status: int) -> None:
    response = plain_http.request(method, f"{open_flow.http}{path}")
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str)


def test_a_flow_without_the_room_answers_404(open_flow: ToyFlow) -> None:
    for path, endpoint in (("search", "/filter"), ("index", "/filter")):
        body = {"queries" if path == "search" else "documents": [TEXT]}
        response = plain_http.post(f"{open_flow.http}/v1/{path}", json=body)
        assert response.status_code == 404
        assert f"Got '{endpoint}'." in response.json()["detail"]
        assert response.json()["type"] == "NotFound"
    assert plain_http.get(f"{open_flow.http}/v1/datasets").status_code == 404


def test_requests_are_counted_by_route(open_flow: ToyFlow) -> None:
    plain_http.post(f"{open_flow.http}/v1/encode", json={"documents": [TEXT]})
    plain_http.get(f"{open_flow.http}/v1/datasets/dress")
    metrics = plain_http.get(f"{open_flow.metrics}/metrics").text
    assert 'finetuner_gateway_requests_total{endpoint="/v1/encode",outcome="ok",protocol="http"}' in metrics
    assert 'endpoint="/v1/datasets/{name}",outcome="refused"' in metrics
    assert "datasets/dress" not in metrics


def test_the_depth_of_json_is_bounded() -> None:
    deepest = json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json(json.dumps(deepest).encode()) == deepest
    with pytest.raises(InvalidInput, match="at most 24 levels"):
        parse_json(json.dumps([deepest]).encode())
    assert parse_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}", "a surrogate pair is one character"


def test_numbers_that_are_not_finite_become_null() -> None:
    response = answer({"loss": [1.5, float("nan")], "best": float("-inf")}, 201)
    assert (response.status_code, bytes(response.body)) == (201, b'{"loss":[1.5,null],"best":null}')
