"""Messages whose documents are not those of DocArray v1."""

from __future__ import annotations

import pytest
from docarray import Document, DocumentArray
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.exceptions import InvalidInput
from finetuner.executors.room.messages import require_documents

from .version_2 import ID, VERSION_2, VERSION_2_ARRAY, entry, written


def message(*documents: bytes) -> DataRequest:
    """Return a request as it arrives: header, then documents."""
    asked = jina_pb2.DataRequestProto()
    asked.header.exec_endpoint = "/encode"
    content = b"".join(written(1, document) for document in documents)
    return DataRequest(asked.SerializeToString() + written(4, written(1, content)))


@pytest.mark.parametrize("documents", [[VERSION_2], [ID], [entry("tags", b"")], [VERSION_2, VERSION_2]])
def test_documents_of_docarray_v2_are_refused(documents: list[bytes]) -> None:
    with pytest.raises(InvalidInput, match="must be those of DocArray v1. Got those of DocArray v2. Send them with"):
        require_documents(message(*documents))


def test_one_among_others_is_refused() -> None:
    good = Document(text="dress").to_protobuf().SerializeToString()
    with pytest.raises(InvalidInput, match="Got those of DocArray v2"):
        require_documents(message(good, VERSION_2, good))


@pytest.mark.parametrize("content", [message(VERSION_2_ARRAY).buffer, b"\xff\xff", b"\x22\x05dress"])
def test_what_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="must be those of DocArray v1. Got a message that is none"):
        require_documents(DataRequest(content))


@pytest.mark.parametrize(
    "name", ["", "\n", "\na", "\n\x01a", "\n\x01a\x12\x01b", "4463d01be5ee8439efb5894a667823e3", "ü"]
)
def test_any_id_of_a_document_of_v1_is_taken(name: str) -> None:
    request = DataRequest()
    request.data.docs = DocumentArray([Document(id=name, text="dress")])
    require_documents(request)
    empty = jina_pb2.DataRequestProto()
    empty.data.docs.docs.add(id=name.replace("\n\x01a", ""))
    require_documents(DataRequest(empty))
