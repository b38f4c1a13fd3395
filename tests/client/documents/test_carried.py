"""Documents that protobuf can carry; of others, the field is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from docarray import Document

from finetuner.documents.carried import carried
from finetuner.exceptions import InvalidDocument


def test_tags_become_plain_and_the_document_stays() -> None:
    part = Document(text="x", tags={"n": np.int64(1)})
    document = Document(id="a", chunks=[part], tags={"price": np.float32(0.5)}, weight=np.float32(0.5))
    found = carried(document)
    assert (found.id, found.tags, found.chunks[0].tags, found.weight) == ("a", {"price": 0.5}, {"n": 1}, 0.5)
    assert type(document.tags["price"]) is np.float32
    assert type(document.chunks[0].tags["n"]) is np.int64
    assert Document.from_protobuf(found.to_protobuf()).tags == {"price": 0.5}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": 5}, r"id must be a string. Got 5 of type int. Use str\(...\)"),
        ({"text": "\ud83d"}, "text must be whole characters"),
        ({"text": 5}, "text must be a string. Got 5"),
        ({"uri": "\udc00.jpg"}, "uri must be whole characters"),
        ({"blob": bytearray(b"x")}, r"blob must be bytes. Got bytearray. Use bytes\(...\)"),
        ({"blob": "x"}, "blob must be bytes. Got str"),
        ({"weight": "x"}, "protobuf must be able to hold the document"),
        ({"tensor": np.array([object()])}, "tensor must hold numbers. Got objects"),
        ({"tags": {"a": float("nan")}}, r"tags\['a'\] must be finite"),
        ({"chunks": [Document(text="x", tags={"a": b"x"})]}, r"tags\['a'\] must be a string, a number"),
    ],
)
def test_another_field_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument, match=message):
        carried(Document(**fields))
