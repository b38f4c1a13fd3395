"""The HTTP side: documents in and out, and refused requests."""

from __future__ import annotations

import base64
import http.client
import json
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from docarray import Document, DocumentArray
from google.protobuf.json_format import ParseDict
from jina import Client
from jina.proto import jina_pb2_grpc
from jina.types.request.data import DataRequest

from finetuner.contract.wire import (
    ERROR_TAG,
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_DOCUMENTS,
    MAX_MESSAGE_PARTS,
    MAX_PARAMETER_PARTS,
    OWNER,
)
from finetuner.executors.gateway.flow.documents import response_status
from finetuner.workspace.tokens import ENVIRONMENT
from tests import plain_http
from tests.gateway.conftest import TOKEN, ToyFlow


def test_documents_pass_the_rooms_and_come_back_as_json(open_flow: ToyFlow) -> None:
    blob = base64.b64encode(b"\x00image").decode()
    answer = plain_http.post(
        f"{open_flow.http}/encode", json={"data": [{"id": "a", "text": "dress"}, {"blob": blob}]}
    ).json()
    first, second = answer["data"]
    assert (first["id"], first["text"], first["embedding"]) == ("a", "dress", [0.5] * 4)
    assert second["blob"] == blob
    for each, room in ((first, "ToyText"), (second, "ToyVision")):
        assert each["tags"] == {"trace": [room], "finetuner_artifact": "toy"}
    assert "uri" not in first, "empty fields are left out"
    assert answer["parameters"] == {}


def test_search_answers_with_matches_and_scores(open_flow: ToyFlow) -> None:
    answer = plain_http.post(f"{open_flow.http}/search", json={"data": [{"text": "dress"}]}).json()
    match = answer["data"][0]["matches"][0]
    assert match["text"] == "found"
    assert match["scores"]["cosine"]["value"] == 0.25


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": None}])
def test_a_control_endpoint_needs_no_documents(open_flow: ToyFlow, body: dict[str, Any]) -> None:
    answer = plain_http.post(f"{open_flow.http}/runs/list", json={**body, "parameters": {"experiment": "e"}}).json()
    assert json.loads(answer["data"][0]["text"]) == {"experiment": "e"}


def test_a_caller_cannot_upload_in_the_name_of_another(locked_flow: ToyFlow) -> None:
    parameters = {OWNER: "anna", "trainer": {OWNER: "ben", "upload": "x"}}
    headers = {"authorization": f"token {TOKEN}"}
    answer = plain_http.post(
        f"{locked_flow.http}/datasets/push", json={"parameters": parameters}, headers=headers
    ).json()
    over_grpc = Client(host=locked_flow.grpc).post(
        "/datasets/push", parameters=parameters, metadata=(("authorization", f"token {TOKEN}"),)
    )
    for text in (answer["data"][0]["text"], over_grpc[0].text):
        got = json.loads(text)
        assert (got[OWNER], got["upload"]) == (ENVIRONMENT, "x")


def test_an_empty_body_is_an_empty_request(open_flow: ToyFlow) -> None:
    assert plain_http.post(f"{open_flow.http}/runs/list").status_code == 200


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_jina_client_gets_the_same_over_both_protocols(open_flow: ToyFlow, protocol: str) -> None:
    client = Client(host=open_flow.grpc if protocol == "grpc" else open_flow.http)
    assert client.is_flow_ready()
    documents = client.post("/search", DocumentArray([Document(text="dress"), Document(blob=b"\x00")]))
    assert [document.tags["trace"] for document in documents] == [
        ["ToyText", "ToyIndexer"],
        ["ToyVision", "ToyIndexer"],
    ]
    assert documents.embeddings.tolist() == [[0.5] * 4] * 2
    assert documents[0].matches[0].scores["cosine"].value == 0.25
    described = client.post("/fit", parameters={"epochs": 3})
    assert json.loads(described[0].text) == {"epochs": 3}
    assert "trace" not in described[0].tags, "/fit visits only the trainer"


@pytest.mark.parametrize(
    ("protocol", "endpoint", "embedded", "named", "visited"),
    [
        ("grpc", "/search", [True, True], None, ["ToyIndexer"]),
        ("http", "/search", [True, True], None, ["ToyIndexer"]),
        ("grpc", "/search", [True, False], None, ["ToyText", "ToyIndexer"]),
        ("grpc", "/search", [True, True], "text_encoder", ["ToyText"]),
        ("http", "/search", [True, True], "indexer", ["ToyIndexer"]),
        ("grpc", "/encode", [True, True], None, ["ToyText"]),
        ("grpc", "/index", [True, True], None, ["ToyText", "ToyVision"]),
    ],
    ids=[
        "all embedded",
        "over HTTP",
        "one is not",
        "a room named",
        "over HTTP too",
        "for encoders",
        "encoders alone bind it",
    ],
)
def test_documents_with_embeddings_skip_the_encoders(
    open_flow: ToyFlow, protocol: str, endpoint: str, embedded: list[bool], named: str | None, visited: list[str]
) -> None:
    client = Client(host=open_flow.grpc if protocol == "grpc" else open_flow.http)
    documents = DocumentArray(Document(text="dress", embedding=[1.0] * 4 if have else None) for have in embedded)
    answer = client.post(endpoint, documents, target_executor=named)
    assert [document.tags["trace"] for document in answer] == [visited] * 2


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    "named", ["(((.+)+)+)+!", "text_encoder|indexer", "^text_encoder$", "text_encode", "indexer\n"]
)
def test_a_room_is_named_exactly(open_flow: ToyFlow, protocol: str, named: str) -> None:
    client = Client(host=open_flow.grpc if protocol == "grpc" else open_flow.http)
    documents = DocumentArray([Document(text="a")])
    with pytest.raises(Exception, match=r"target_executor must be the exact name of a room: trainer, text_encoder"):
        client.post("/encode", documents, target_executor=named)


@pytest.mark.parametrize("named", [5, ["indexer"], False, {"a": 1}])
def test_the_name_of_a_room_is_a_string(open_flow: ToyFlow, named: object) -> None:
    answer = plain_http.post(f"{open_flow.http}/encode", json={"data": [], "target_executor": named})
    assert answer.status_code == 422
    assert f"target_executor must be the name of a room. Got {named!r}." in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{broken", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b'{"data": ' + b"[" * 60_000, "must be JSON"),
        (b'{"data": ' + b"[" * 100_000, "may hold 65536 lists and objects"),
        (b'{"parameters": {"a": 1e999}}', "parameters.a must be finite. Got inf"),
        (b'{"data": [{"embedding": [NaN]}]}', "data[0].embedding[0] must be finite. Got nan"),
        (b"[]", "must be an object"),
        (b'{"data": "dress"}', "must be a list"),
        (b'{"data": ["dress"]}', "data[0] must be an object"),
        (b'{"parameters": []}', "parameters must be an object"),
        (b'{"data": [{"text": "ok"}, {"txt": "dress"}]}', "Got 'txt'. Leave it out."),
        (b'{"data": [{"blob": "no base64!"}]}', "data[0].blob must be base64"),
        (
            b'{"data": [{"text": "a"}, {"text": "a", "blob": "AA=="}]}',
            "data[1] must have one of text, blob, tensor. Got text and blob",
        ),
        (b'{"data": [{"text": {"a": 1}}]}', "data[0] must be a document"),
        (b'{"data": [{"text": "\\ud800"}]}', "data[0].text must be whole characters"),
        (b'{"data": [{"tensor": [[1, 2], [3]]}]}', "data[0] must be a document"),
    ],
)
def test_a_wrong_body_is_refused_with_a_reason(open_flow: ToyFlow, body: bytes, expected: str) -> None:
    answer = plain_http.post(f"{open_flow.http}/encode", content=body)
    assert answer.status_code == 422
    assert expected in answer.json()["detail"]


MOST, PARTS, PARAMETERS = MAX_MESSAGE_DOCUMENTS, MAX_MESSAGE_PARTS, MAX_PARAMETER_PARTS
TOO_MANY = f"A request may hold {MOST} documents, with their chunks and matches. Got more."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": [{}] * (MOST + 1)}, TOO_MANY),
        ({"data": {"docs": [{}] * (MOST + 1)}}, TOO_MANY),
        ({"data": [{"chunks": [{}] * MOST}]}, TOO_MANY),
        ({"data": [{"matches": [{"chunks": [{}] * (MOST // 2)}] * 2}]}, TOO_MANY),
        (
            {"data": [{"tags": {"a": [1] * (MAX_MESSAGE_PARTS // 2 + 1)}}]},
            "fields and values in its documents and tags",
        ),
        ({"parameters": {"a": [[1]] * (PARAMETERS // 4 + 1)}}, f"{PARAMETERS} fields and values in its parameters"),
        ({"parameters": {"text_encoder": 5}}, "parameters.text_encoder must be an object of parameters."),
        ({"parameters": {"__results__": [1]}}, "parameters.__results__ must be an object of parameters."),
    ],
    ids=["documents", "docs", "chunks", "matches", "tags", "parameters", "of a room", "of Jina"],
)
def test_too_much_is_refused_over_both_protocols(open_flow: ToyFlow, body: dict[str, Any], expected: str) -> None:
    answer = plain_http.post(f"{open_flow.http}/post", json={**body, "exec_endpoint": "/encode"})
    assert answer.status_code == 422
    assert expected in answer.json()["detail"]
    request = DataRequest()
    request.header.exec_endpoint = "/encode"
    request.parameters = body.get("parameters", {})
    documents = body.get("data", [])
    for fields in documents["docs"] if isinstance(documents, dict) else documents:
        ParseDict(fields, request.proto_with_data.data.docs.docs.add())
    for method in ("process_single_data", "Call"):
        refused = called(open_flow, method, request)
        assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert expected in refused.details()


def called(flow: ToyFlow, method: str, request: DataRequest, seconds: float = 60) -> grpc.RpcError:
    """Return the error of a call of the gateway."""
    with grpc.insecure_channel(flow.grpc.removeprefix("grpc://")) as channel:
        if method == "Call":
            answers = jina_pb2_grpc.JinaRPCStub(channel).Call(iter([request]), timeout=seconds)
            call = partial(list, answers)
        else:
            single = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel)
            call = partial(single.process_single_data, request, timeout=seconds)
        with pytest.raises(grpc.RpcError) as refused:
            call()
    return refused.value


def test_an_array_that_lies_is_refused_at_the_door(open_flow: ToyFlow) -> None:
    request = DataRequest()
    request.header.exec_endpoint = "/encode"
    lying = request.proto_with_data.data.docs.docs.add(id="a").tensor
    lying.cls_name, lying.dense.dtype = "numpy", "<f4"
    lying.dense.shape.extend([100_000, 100_000])
    refused = called(open_flow, "process_single_data", request)
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "document 0 (a): tensor of shape (100000, 100000)" in refused.details()


@pytest.mark.parametrize("way", ["http", "Call", "process_single_data"])
def test_the_work_of_a_caller_who_has_gone_ends(open_flow: ToyFlow, way: str) -> None:
    """The indexer never sees a document whose caller leaves while it is with the text encoder."""
    name = f"gone {way}"
    if way == "http":
        with pytest.raises(httpx.ReadTimeout):
            plain_http.post(f"{open_flow.http}/search", json={"data": [{"text": "sleep", "id": name}]}, timeout=0.5)
    else:
        request = DataRequest()
        request.header.exec_endpoint = "/search"
        request.data.docs = DocumentArray([Document(text="sleep", id=name)])
        assert called(open_flow, way, request, 0.5).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # the text encoder takes turns: its next answer means that it has ended with the one before
    seen = plain_http.post(f"{open_flow.http}/search", json={"data": [{"text": "seen"}]}, timeout=60).json()
    assert name in seen["data"][0]["tags"]["text"]
    assert name not in seen["data"][0]["tags"]["indexer"]


def test_an_unknown_endpoint_is_named_with_the_known_ones(open_flow: ToyFlow) -> None:
    answer = plain_http.post(f"{open_flow.http}/serach", json={"data": [{"text": "dress"}]})
    assert answer.status_code == 404
    assert "'/serach'" in answer.json()["detail"]
    assert "/search" in answer.json()["detail"]


def test_post_needs_an_endpoint(open_flow: ToyFlow) -> None:
    answer = plain_http.post(f"{open_flow.http}/post", json={"data": []})
    assert answer.status_code == 422
    assert "exec_endpoint" in answer.json()["detail"]


def test_a_room_that_raises_is_a_500_that_names_it(open_flow: ToyFlow) -> None:
    answer = plain_http.post(f"{open_flow.http}/encode", json={"data": [{"text": "raise"}]})
    assert answer.status_code == 500
    assert "ToyText" in answer.json()["detail"]
    assert "as the test asked" in answer.json()["detail"]


def test_a_body_past_the_limit_is_refused_before_it_is_read_whole(open_flow: ToyFlow) -> None:
    # httpx would send the whole body before it reads the answer
    connection = http.client.HTTPConnection(urlsplit(open_flow.http).netloc, timeout=30)
    connection.putrequest("POST", "/encode")
    connection.putheader("Content-Length", str(4 * MAX_MESSAGE_BYTES))
    connection.endheaders()
    connection.send(b" " * (MAX_MESSAGE_BYTES + 1))
    answer = connection.getresponse()
    assert answer.status == 413
    assert str(MAX_MESSAGE_BYTES) in json.loads(answer.read())["detail"]
    connection.close()


def test_a_body_with_two_lengths_is_refused_and_its_connection_closed(open_flow: ToyFlow) -> None:
    connection = http.client.HTTPConnection(urlsplit(open_flow.http).netloc, timeout=30)
    connection.putrequest("POST", "/encode")
    connection.putheader("Content-Length", "5")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(b"2\r\n{}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    answer = connection.getresponse()
    assert answer.status == 400
    assert answer.getheader("Connection") == "close"
    answer.read()
    assert not connection.sock or connection.sock.recv(1) == b""
    connection.close()


def test_metrics_count_by_protocol_endpoint_and_outcome(open_flow: ToyFlow) -> None:
    plain_http.post(f"{open_flow.http}/encode", json={"data": [{"text": "dress"}]})
    plain_http.post(f"{open_flow.http}/never-heard-of", json={})
    Client(host=open_flow.grpc).post("/encode", DocumentArray([Document(text="dress")]))
    scraped = plain_http.get(f"{open_flow.metrics}/metrics")
    assert scraped.status_code == 200
    for line in (
        'finetuner_gateway_requests_total{endpoint="/encode",outcome="ok",protocol="http"}',
        'finetuner_gateway_requests_total{endpoint="/encode",outcome="ok",protocol="grpc"}',
        'finetuner_gateway_requests_total{endpoint="other",outcome="refused",protocol="http"}',
        'finetuner_gateway_refused_total{protocol="grpc"} 0.0',
    ):
        assert line in scraped.text
    assert "never-heard-of" not in scraped.text, "callers must not add label values"


def marked(*statuses: float | None) -> DataRequest:
    """Return an answer whose documents carry errors with these statuses, None for no error."""
    response = DataRequest()
    response.data.docs = DocumentArray(
        Document(tags={} if status is None else {ERROR_TAG: {"type": "X", "message": "x", "status": status}})
        for status in statuses
    )
    return response


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((), 200), ((None,), 200), ((422,), 422), ((422, None), 200), ((404, 404), 404), ((422, 429), 429), ((1e9,), 500)],
)
def test_the_status_is_that_of_all_documents(statuses: tuple[float | None, ...], expected: int) -> None:
    assert response_status(marked(*statuses)) == expected


def test_an_error_tag_of_the_sender_counts_as_500() -> None:
    response = marked(422)
    response.data.docs = DocumentArray([Document(tags={ERROR_TAG: "mine"})])
    assert response_status(response) == 500


def test_a_request_whose_documents_all_fail_has_their_status(locked_flow: ToyFlow) -> None:
    headers = {"authorization": f"token {TOKEN}"}
    bad, good = {"blob": base64.b64encode(b"image").decode()}, {"text": "dress"}
    answer = plain_http.post(f"{locked_flow.http}/encode", json={"data": [bad, bad]}, headers=headers)
    assert answer.status_code == 422
    assert [document["tags"]["finetuner_error"]["status"] for document in answer.json()["data"]] == [422, 422]
    assert plain_http.post(f"{locked_flow.http}/encode", json={"data": [bad, good]}, headers=headers).status_code == 200
    through_jina = {"data": [bad], "exec_endpoint": "/encode"}
    assert plain_http.post(f"{locked_flow.http}/post", json=through_jina, headers=headers).status_code == 200
    metrics = plain_http.get(locked_flow.metrics).text
    assert 'finetuner_gateway_requests_total{endpoint="/encode",outcome="refused",protocol="http"}' in metrics
