"""Thumbnails of images."""

from __future__ import annotations

import io

import pytest
from docarray import Document
from PIL import Image

from finetuner.documents.images import decode, read_data_uri
from finetuner.documents.thumbnails import SIDE, shrink, thumbnail_uri
from finetuner.exceptions import UndecodableImage


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "expected"), [((800, 400), (96, 48)), ((40, 30), (40, 30))])
def test_a_thumbnail_is_a_small_jpeg_as_data_uri(size: tuple[int, int], expected: tuple[int, int]) -> None:
    uri = thumbnail_uri(png(*size), 96)
    assert uri.startswith("data:image/jpeg;base64,")
    assert decode(read_data_uri(uri)).size == expected


def test_bytes_that_are_not_an_image_have_no_thumbnail() -> None:
    with pytest.raises(UndecodableImage):
        thumbnail_uri(b"text")


def test_shrinking_replaces_images_of_a_document_and_its_chunks() -> None:
    document = Document(blob=png(1000, 500), chunks=[Document(blob=b"no image"), Document(uri="http://x/y.jpg")])
    shrink(document)
    assert (decode(document.blob).size, document.mime_type) == ((SIDE, SIDE // 2), "image/jpeg")
    assert document.chunks[0].blob == b""
    assert document.chunks[1].uri == "http://x/y.jpg"
