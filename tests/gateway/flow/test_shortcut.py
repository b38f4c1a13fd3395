"""Texts that an encoder refuses for their length do not travel through the rooms."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from docarray import Document, DocumentArray
from jina import Client
from jina.excepts import BadServerFlow

from finetuner.contract.wire import MAX_REQUEST_BYTES
from finetuner.inference.encoding import MAX_TEXT
from tests.gateway.conftest import ToyFlow

LONG = "x" * (10 * MAX_TEXT)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_text_that_is_too_long_is_cut_to_a_length_that_is_refused(open_flow: ToyFlow, protocol: str) -> None:
    documents = [{"text": LONG}, {"text": "x" * MAX_TEXT}, {"text": "a"}]
    if protocol == "http":
        answer = httpx.post(f"{open_flow.http}/encode", json={"data": documents}).json()["data"]
        lengths = [len(each["text"]) for each in answer]
    else:
        answer = Client(host=open_flow.grpc).post("/encode", DocumentArray([Document(**each) for each in documents]))
        lengths = [len(text) for text in answer[:, "text"]]
    assert lengths == [MAX_TEXT + 1, MAX_TEXT, 1]


def test_the_text_of_an_embedded_document_is_whole(open_flow: ToyFlow) -> None:
    document = Document(text=LONG, embedding=np.ones(4, np.float32))
    (answer,) = Client(host=open_flow.grpc).post("/encode", DocumentArray([document]))
    assert answer.text == LONG


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_texts_of_more_characters_than_a_message_may_have_are_refused_before_the_rooms(
    open_flow: ToyFlow, protocol: str
) -> None:
    documents = [{"text": "x" * MAX_TEXT}] * (MAX_REQUEST_BYTES // MAX_TEXT + 1)
    said = f"may have {MAX_REQUEST_BYTES} characters in all. Got {len(documents) * MAX_TEXT}. Send fewer at once."
    if protocol == "http":
        answer = httpx.post(f"{open_flow.http}/encode", json={"data": documents})
        assert answer.status_code == 422
        assert said in answer.text
        return
    with pytest.raises(BadServerFlow, match=said):
        Client(host=open_flow.grpc).post(
            "/encode", DocumentArray([Document(**each) for each in documents]), request_size=len(documents)
        )
