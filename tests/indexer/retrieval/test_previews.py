"""Matches with small images, for result grids."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.contract import wire
from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.executor import Indexer

MakeDocument = Callable[..., Document]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Indexer]:
    made = Indexer(workspace_url=str(tmp_path))
    yield made
    made.close()


def image(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 60), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


def shown(room: Indexer, **parameters: object) -> DocumentArray:
    """All documents by /filter, with thumbnails."""
    answer = room.filter(docs=DocumentArray(), parameters={"artifact": "model-a", "thumbnails": True, **parameters})
    return DocumentArray.from_protobuf(answer.to_protobuf())


def size_of(blob: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(blob)) as image:
        assert image.format == "JPEG"
        return image.size


def test_every_kind_of_image_becomes_a_small_jpeg(room: Indexer, encoded: MakeDocument) -> None:
    large = image(1024, 512)
    parts = [Document(blob=large), Document(text="its caption")]
    documents = [
        encoded("blob", [1, 0], blob=large, mime_type="image/png", tags={"price": 5}),
        encoded("small", [1, 0], blob=image(20, 10)),
        encoded("tensor", [1, 0], tensor=np.zeros((600, 300, 3), np.uint8)),
        encoded("data", [1, 0], uri=f"data:image/png;base64,{base64.b64encode(large).decode()}"),
        encoded("pair", [1, 0], chunks=parts),
        encoded("text", [1, 0], text="a text"),
        encoded("address", [1, 0], uri="https://example.org/x.jpg"),
        encoded("rubbish", [1, 0], blob=b"<script>"),
        encoded("numbers", [1, 0], tensor=np.ones(7)),
    ]
    room.index(docs=DocumentArray(documents))
    for _ in range(2):  # the second time they are kept ones
        found = shown(room)
        assert size_of(found["blob"].blob) == (256, 128)
        assert (found["blob"].mime_type, found["blob"].tags["price"]) == ("image/jpeg", 5)
        assert size_of(found["small"].blob) == (20, 10), "never enlarged"
        assert (size_of(found["tensor"].blob), found["tensor"].tensor) == ((128, 256), None)
        assert (size_of(found["data"].blob), found["data"].uri) == ((256, 128), "")
        assert size_of(found["pair"].chunks[0].blob) == (256, 128)
        assert found["pair"].chunks[1].text == "its caption"
        assert found["text"].text == "a text"
        assert (found["address"].uri, found["address"].blob) == ("https://example.org/x.jpg", b"")
        assert (found["rubbish"].blob, found["numbers"].tensor) == (b"", None)
    whole = room.filter(docs=DocumentArray(), parameters={"artifact": "model-a"})
    assert whole["blob"].blob == large, "the content stays"


def test_search_has_them_too_and_a_changed_image_another(room: Indexer, encoded: MakeDocument) -> None:
    def colour() -> tuple[int, ...]:
        query = DocumentArray([encoded("q", [1, 0])])
        answer = room.search(docs=query, parameters={"thumbnails": True})
        (match,) = DocumentArray.from_protobuf(answer.to_protobuf())[0].matches
        assert match.scores["cosine"].value == pytest.approx(1)
        with Image.open(io.BytesIO(match.blob)) as image:
            return image.convert("RGB").getpixel((0, 0))  # type: ignore[return-value]

    for made in [(200, 30, 60), (10, 220, 90)]:
        room.index(docs=DocumentArray([encoded("d", [1, 0], blob=image(300, 300, made))]))
        assert colour() == pytest.approx(made, abs=6)
    assert room._index.documents._one("SELECT count(*) FROM previews") == 1, "the old one went with its image"


def test_without_content_there_are_none(room: Indexer, encoded: MakeDocument) -> None:
    room.index(docs=DocumentArray([encoded("d", [1, 0], text="x")]))
    error = wire.error_of(shown(room, return_content=False)[0])
    assert isinstance(error, InvalidInput)
    assert "return_content must be true for thumbnails" in str(error)
