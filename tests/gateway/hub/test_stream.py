"""DocArray's stream of documents, as the hub reads and writes it."""

from __future__ import annotations

import gzip
import os

import pytest

from finetuner.contract import wire
from finetuner.documents import stream
from finetuner.documents.stream import StreamReader, pack
from finetuner.exceptions import InvalidDocument
from tests.gateway.hub.conftest import streamed, texts


@pytest.mark.parametrize("length", [0, 1, 65534, 65535, 65536, 200_000])
@pytest.mark.parametrize("zeros", [0, 7])
def test_our_gzip_is_gzip_of_the_size_that_was_said(length: int, zeros: int) -> None:
    content = os.urandom(length)
    packed = pack(content, zeros)
    assert len(packed) == stream.packed_size(length) + zeros
    assert gzip.decompress(packed[4:]) == content


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_stream_may_arrive_in_any_pieces(step: int) -> None:
    documents, reader = texts(5), StreamReader()
    content = streamed(documents)
    found = [each for start in range(0, len(content), step) for each in reader.feed(content[start : start + step])]
    assert found == [document.to_bytes(protocol="protobuf") for document in documents]
    assert reader.finish() == 5


def test_a_document_past_the_limit_is_refused_by_its_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 2**20 + 100)
    with pytest.raises(InvalidDocument, match="document 0 must be at most 100 bytes. Got 5000 bytes of gzip"):
        list(StreamReader().feed(stream.HEADER.pack(1, 1) + (5000).to_bytes(4, "big")))
