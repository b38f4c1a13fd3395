"""Access control by token, over both protocols."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import httpx
import pytest
from docarray import Document, DocumentArray
from grpc_health.v1 import health_pb2, health_pb2_grpc
from jina import Client
from jina.excepts import BadServerFlow
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest, SingleDocumentRequest

from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput, Unauthorized
from finetuner.executors.gateway.access.access import ANYBODY, Access, Caller
from finetuner.transport.connection import Connection
from finetuner.workspace.tokens import ENVIRONMENT, Role
from tests import plain_http
from tests.gateway.conftest import TOKEN, WRONG_TOKENS, ToyFlow

WRONG = [
    None, f"token {TOKEN}x", f"token {TOKEN[:-1]}", f"{TOKEN}x", f"Basic {TOKEN}", f"token bearer {TOKEN}", "token ",
    "token", "Bearer", "", "token ü",
]  # fmt: skip


def request() -> DataRequest:
    asked = DataRequest()
    asked.header.exec_endpoint = "/encode"
    asked.data.docs = DocumentArray([Document(text="dress")])
    return asked


@pytest.mark.parametrize("header", [f"token {TOKEN}", f"Bearer {TOKEN}", f"TOKEN  {TOKEN} ", TOKEN])
def test_a_valid_token_is_accepted(header: str) -> None:
    for each in (header, header.encode()):
        assert Access(TOKEN).caller(each) == Caller(ENVIRONMENT, Role.ADMIN)


@pytest.mark.parametrize("header", WRONG)
def test_any_other_header_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthorized) as refused:
        Access(TOKEN).caller(header)
    assert TOKEN not in str(refused.value)
    assert Access(None).caller(header) == ANYBODY


@pytest.mark.parametrize("secret", ["", "x", "7 chars", "two words", "an ümlaut", "the line\n", 12345678])
def test_a_token_that_no_header_can_carry_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInput, match="visible ASCII"):
        Access(secret)


@pytest.mark.parametrize("header", [None, f"token {TOKEN}x", f"{TOKEN}x", f"Basic {TOKEN}", "token", ""])
def test_http_answers_401_with_a_detail(locked_flow: ToyFlow, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    for method, path in (("POST", "/encode"), ("POST", "/"), ("GET", "/openapi.json"), ("GET", "/nowhere")):
        answer = plain_http.request(method, locked_flow.http + path, headers=headers)
        assert answer.status_code == 401, path
        assert "token" in answer.json()["detail"]


def test_our_client_raises_unauthorized_each_time(locked_flow: ToyFlow) -> None:
    for _ in range(100):
        with pytest.raises(Unauthorized):
            Connection(locked_flow.grpc).post("/encode")


def test_a_streaming_client_reads_the_refusal_each_time(locked_flow: ToyFlow) -> None:
    client = Client(host=locked_flow.grpc)
    documents = DocumentArray([Document(text="dress") for _ in range(20)])
    for number in range(60):  # 1 of 4 calls reported INTERNAL, as the refusal came while the client was writing
        with pytest.raises(BadServerFlow, match="UNAUTHENTICATED The token must belong to this Flow"):
            client.post("/encode", documents[: 1 + number % 20], request_size=1, metadata=(("authorization", "x"),))


def test_a_stream_that_stays_open_is_refused_too(locked_flow: ToyFlow) -> None:
    over = threading.Event()

    def requests() -> Iterator[DataRequest]:
        yield request()
        over.wait()

    with grpc.insecure_channel(locked_flow.grpc.removeprefix("grpc://")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            next(jina_pb2_grpc.JinaRPCStub(channel).Call(requests(), timeout=100))
        over.set()
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_http_with_the_token_is_served(locked_flow: ToyFlow) -> None:
    answer = plain_http.post(
        f"{locked_flow.http}/encode", json={"data": [{"text": "dress"}]}, headers={"authorization": f"token {TOKEN}"}
    )
    assert answer.json()["data"][0]["embedding"] == [0.5] * 4


@pytest.mark.parametrize("method", ["Call", "process_single_data", "stream_doc", "_status", "endpoint_discovery"])
def test_every_grpc_method_asks_for_the_token(locked_flow: ToyFlow, method: str) -> None:
    with grpc.insecure_channel(locked_flow.grpc.removeprefix("grpc://")) as channel:
        empty = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
        call = {
            "Call": lambda: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([request()]))),
            "process_single_data": lambda: jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data(
                request()
            ),
            "stream_doc": lambda: next(
                iter(jina_pb2_grpc.JinaSingleDocumentRequestRPCStub(channel).stream_doc(SingleDocumentRequest()))
            ),
            "_status": lambda: jina_pb2_grpc.JinaInfoRPCStub(channel)._status(empty),
            "endpoint_discovery": lambda: jina_pb2_grpc.JinaDiscoverEndpointsRPCStub(channel).endpoint_discovery(empty),
        }[method]
        with pytest.raises(grpc.RpcError) as refused:
            call()
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "token" in refused.value.details()


def test_grpc_with_the_token_is_served(locked_flow: ToyFlow) -> None:
    documents = Client(host=locked_flow.grpc).post(
        "/encode", DocumentArray([Document(text="dress")]), metadata=(("authorization", f"Bearer {TOKEN}"),)
    )
    assert documents[0].embedding.tolist() == [0.5] * 4


def test_health_needs_no_token(locked_flow: ToyFlow) -> None:
    assert plain_http.get(locked_flow.http).status_code == 200
    assert plain_http.get(f"{locked_flow.http}/healthz").status_code == 503, (
        "because of the broken encoder, not the token"
    )
    assert Client(host=locked_flow.grpc).is_flow_ready()
    with grpc.insecure_channel(locked_flow.grpc.removeprefix("grpc://")) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_refused_calls_are_counted(locked_flow: ToyFlow) -> None:
    plain_http.post(f"{locked_flow.http}/encode")
    lines = plain_http.get(f"{locked_flow.metrics}/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith('finetuner_gateway_refused_total{protocol="http"}')]
    assert float(counted[0].split()[-1]) >= 1


def test_an_address_that_guesses_is_slowed_down_and_its_right_tokens_pass(locked_flow: ToyFlow) -> None:
    transport = httpx.HTTPTransport(local_address="127.0.0.9")  # others of this Flow's tests send wrong tokens as well
    with httpx.Client(base_url=locked_flow.http, transport=transport, timeout=60) as client:
        statuses = [
            client.get("/openapi.json", headers={"authorization": f"token guess-{number}"}).status_code
            for number in range(2 * WRONG_TOKENS)
        ]
        right = client.get("/openapi.json", headers={"authorization": f"token {TOKEN}"})
    assert set(statuses[:WRONG_TOKENS]) == {401}
    assert statuses.count(429) > 100
    assert right.status_code == 200
    headers = {"authorization": "token guess"}
    assert plain_http.get(f"{locked_flow.http}/openapi.json", headers=headers).status_code == 401, "of another address"


def test_a_pickle_is_refused(open_flow: ToyFlow) -> None:
    proto = jina_pb2.DataRequestProto()
    proto.header.exec_endpoint = "/encode"
    proto.data.docs_bytes = DocumentArray([Document(text="dress")]).to_bytes()
    with grpc.insecure_channel(open_flow.grpc.removeprefix("grpc://")) as channel:
        for call in (
            lambda: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([DataRequest(proto)]), timeout=100)),
            lambda: jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel).process_single_data(
                DataRequest(proto), timeout=100
            ),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "pickle" in refused.value.details()


def test_a_message_past_the_limit_is_refused_and_the_flow_goes_on(open_flow: ToyFlow) -> None:
    client = Client(host=open_flow.grpc)
    with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
        client.post("/encode", DocumentArray([Document(blob=bytes(MAX_MESSAGE_BYTES))]))
    assert len(client.post("/encode", DocumentArray([Document(text="dress")]), prefetch=100_000)) == 1
