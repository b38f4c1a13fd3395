"""Images known by their first bytes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from finetuner.documents.image_files import FORMATS, HEAD_BYTES, is_image


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_known_by_its_first_bytes(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, kind)
    assert is_image(file.getvalue()[:HEAD_BYTES])


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"8BPS\0\x01\0\0", b"\0\0\0\x0cjP  \r\n\x87\n", b"P5\n# a\n3 2"]
)
def test_images_of_other_formats_are_known(head: bytes) -> None:
    assert is_image(head)


@pytest.mark.parametrize(
    "head",
    [b"", b"BMW and other cars, a list of them", b"P1 is a name", b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42",
     b"GIFT", b"{}", b"\x89PN", b"PAR1"],
)  # fmt: skip
def test_other_files_are_no_images(head: bytes) -> None:
    assert not is_image(head)
