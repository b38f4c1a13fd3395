"""Our messages against the generated ones of Jina and DocArray."""

from __future__ import annotations

import pytest
from docarray import Document, DocumentArray
from docarray.proto.docarray_pb2 import DocumentArrayProto
from google.protobuf.message import DecodeError
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract import wire
from finetuner.transport import messages

PARAMETERS = {"limit": 5, "share": 0.5, "name": "ä", "none": None, "on": True, "list": [1, "a", {"deep": [None]}]}
DOCUMENTS = DocumentArray([Document(text="a red dress", tags={"price": 5, "sizes": ["s", "m"]}), Document(blob=b"x")])


def test_jina_reads_a_request_as_its_own() -> None:
    docs = DOCUMENTS.to_protobuf().SerializeToString()
    read = DataRequest(messages.request("/search", docs, PARAMETERS))
    assert read.header.exec_endpoint == "/search"
    assert len(read.header.request_id) == 32
    assert read.parameters == PARAMETERS
    assert read.docs.to_dict() == DOCUMENTS.to_dict()
    assert not read.routes


def test_an_answer_of_jina_is_read() -> None:
    answer = DataRequest()
    answer.data.docs = DOCUMENTS
    failure, docs = messages.read_answer(answer.SerializeToString())
    assert failure == ""
    assert DocumentArray.from_protobuf(DocumentArrayProto.FromString(docs)).to_dict() == DOCUMENTS.to_dict()
    assert messages.read_replies(docs) == [
        wire.Reply("a red dress", {"price": 5.0, "sizes": ["s", "m"]}),
        wire.Reply("", {}),
    ]


@pytest.mark.parametrize("description", ["RuntimeError('boom')", ""])
def test_a_rooms_exception_is_read(description: str) -> None:
    answer = jina_pb2.DataRequestProto()
    answer.header.status.code = jina_pb2.StatusProto.ERROR
    answer.header.status.description = description
    assert messages.read_answer(answer.SerializeToString()).failure == (description or "unknown error")


def test_the_environment_of_a_gateway_is_read() -> None:
    info = jina_pb2.JinaInfoProto(jina={"jina": "3.34.0"}, envs={"HTTP": "51001", "EMPTY": ""})
    assert messages.read_environment(info.SerializeToString()) == {"HTTP": "51001", "EMPTY": ""}


def test_the_methods_are_those_of_jina() -> None:
    services = jina_pb2.DESCRIPTOR.services_by_name
    for path in (messages.SINGLE_REQUEST, messages.STATUS):
        service, method = path.removeprefix("/jina.").split("/")
        assert method in services[service].methods_by_name
    assert jina_pb2.StatusProto.ERROR == messages.FAILED


def test_other_bytes_are_refused() -> None:
    for read in (messages.read_answer, messages.read_replies, messages.read_environment):
        with pytest.raises(DecodeError):
            read(b"<html>no gateway</html>")
