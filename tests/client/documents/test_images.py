"""Decoding of images, and refusal of other content."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from docarray import Document
from PIL import Image

from finetuner.documents import images
from finetuner.documents.images import decode, from_tensor, image_of, read_data_uri
from finetuner.exceptions import InvalidDocument

RED, BLUE = (254, 0, 0), (0, 0, 254)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Return an image with a red left half and a blue right half."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size, with almost no content."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, mode) for kind in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF") for mode in ("RGB", "RGBA", "P", "L")),
        *((kind, mode) for kind in ("JPEG", "PPM") for mode in ("RGB", "L")),
        *((kind, "CMYK") for kind in ("JPEG", "TIFF")),
    ],
)
def test_formats_and_modes_become_rgb(kind: str, mode: str) -> None:
    image = decode(saved(halves().convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert np.abs(np.asarray(image, int) - np.asarray(halves().convert(mode).convert("RGB"), int)).mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_tones(kind: str) -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = np.asarray(decode(saved(Image.fromarray(ramp), kind)))
    assert np.array_equal(found, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((800, 600), 0, (800, 600)),
        ((800, 600), 150, (200, 150)),
        ((800, 600), 151, (400, 300)),
        ((800, 600), 60, (100, 75)),
        ((800, 600), 601, (800, 600)),
        ((600, 800), 300, (300, 400)),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert decode(saved(halves(*size), "JPEG"), side).size == expected
    assert image_of(Document(blob=saved(halves(*size), "JPEG")), bytes, side).size == expected
    assert decode(saved(halves(*size), "PNG"), side).size == size


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 20)), (3, (40, 20)), (6, (20, 40)), (8, (20, 40))])
def test_exif_turns_the_image_upright(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(saved(halves(), "PNG", exif=exif))
    assert image.size == size
    top_left_is_red = {1: True, 3: False, 6: True, 8: False}
    assert (image.getpixel((0, 0)) == RED) is top_left_is_red[orientation]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(halves(400, 300), "JPEG")[:500], "image file such as JPEG or PNG. Got 500 bytes that cannot be"),
        (b"", "Got 0 bytes"),
        (b"just text in a file called photo.jpg", "Got 36 bytes"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n", "formats are AVIF, BMP"),
        (saved(halves(), "PNG")[:-30], "cannot be decoded"),
        (png_header(30_000, 30_000), "at most 64000000 pixels. Got more .*exceeds limit"),
        (png_header(10_000, 10_000), "at most 64000000 pixels. Got 10000 x 10000"),
        (png_header(0, 5), "cannot be decoded"),
        (saved(Image.new("F", (4, 4)), "TIFF"), "whole numbers as pixels. Got floating point"),
    ],
    ids=["truncated JPEG", "empty", "text", "SVG", "EPS", "cut PNG", "bomb", "large", "no width", "float"],
)
def test_other_content_is_refused_in_one_line(content: bytes, expected: str) -> None:
    with pytest.raises(InvalidDocument, match=expected) as caught:
        decode(content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(InvalidDocument, match="at most 100 bytes. Got 101"):
        decode(b"x" * 101)


def test_tensors_become_images() -> None:
    pixels = np.asarray(halves())
    assert np.array_equal(np.asarray(from_tensor(pixels)), pixels)
    assert from_tensor(pixels[:, :, 0]).mode == "RGB"


@pytest.mark.parametrize(
    "tensor",
    [
        np.full((4, 4, 3), np.nan, np.float32),
        np.zeros((4, 4, 3), np.float64),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(5, np.uint8),
        np.array("text"),
        np.array([object()]),
    ],
    ids=lambda tensor: f"{tensor.shape} {tensor.dtype}",
)
def test_an_invalid_tensor_is_refused_with_its_shape_and_dtype(tensor: np.ndarray) -> None:
    with pytest.raises(InvalidDocument) as caught:
        from_tensor(tensor)
    assert f"(height, width, 3) or (height, width) uint8. Got {tensor.shape} {tensor.dtype}" in str(caught.value)


def test_a_large_tensor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 15)
    with pytest.raises(InvalidDocument, match="at most 15 pixels. Got 4 x 4"):
        from_tensor(np.zeros((4, 4), np.uint8))


def test_data_uris_hold_bytes() -> None:
    content = saved(halves(), "PNG")
    assert read_data_uri("data:image/png;base64," + base64.b64encode(content).decode()) == content
    assert read_data_uri("data:,a%20b") == b"a b"


@pytest.mark.parametrize("uri", ["data:image/png;base64", "data:;base64,image", "data:;base64,abc", "data:;base64,ää"])
def test_a_malformed_data_uri_is_refused(uri: str) -> None:
    with pytest.raises(InvalidDocument, match="data URI must") as caught:
        read_data_uri(uri)
    assert uri[:40] in str(caught.value)


def test_a_long_data_uri_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(InvalidDocument, match="data URI must be"):
        read_data_uri("data:," + "x" * 21)


def refuse(uri: str) -> bytes:
    raise AssertionError(f"{uri} was fetched")


@pytest.mark.parametrize(
    "make",
    [
        lambda content: Document(blob=content),
        lambda content: Document(tensor=np.asarray(halves())),
        lambda content: Document(uri="data:image/png;base64," + base64.b64encode(content).decode()),
    ],
    ids=["blob", "tensor", "data"],
)
def test_a_documents_image_is_found(make: Callable[[bytes], Document]) -> None:
    document = make(saved(halves(), "PNG"))
    assert image_of(document, refuse).getpixel((0, 0)) == RED


def test_the_reader_fetches_a_uri() -> None:
    assert image_of(Document(uri="somewhere"), lambda uri: saved(halves(), "PNG")).size == (40, 20)


@pytest.mark.parametrize("size", [(5100, 100), (1, 51), (1_000_000, 1)])
def test_a_very_long_image_is_refused(size: tuple[int, int]) -> None:
    """Scaled to a model's input size, a file of a kilobyte would take gigabytes."""
    content = io.BytesIO()
    Image.new("L", size).save(content, "PNG")
    with pytest.raises(InvalidDocument, match=f"50 times as long as wide. Got {size[0]} x {size[1]}. Cut it"):
        decode(content.getvalue())
    with pytest.raises(InvalidDocument, match="50 times as long as wide"):
        from_tensor(np.zeros((size[1], size[0]), dtype=np.uint8))


def test_a_document_without_content_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="must have text, blob, tensor or uri. Got none"):
        image_of(Document(), refuse)
