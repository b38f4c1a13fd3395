"""Images known by their first bytes."""

from __future__ import annotations

import numpy as np
import pytest

from finetuner.documents import image_files
from finetuner.documents.image_files import FORMATS, HEAD_BYTES, is_image
from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument
from tests.client.documents.made_images import noise, saved


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_known_by_its_first_bytes(kind: str) -> None:
    assert is_image(saved(noise(), kind)[:HEAD_BYTES])


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


def test_heic_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "HEIC_PACKAGE", "no_such_package")
    with pytest.raises(InvalidDocument, match=r"HEIC needs the extra 'heic' .* pip install 'open-finetuner\[heic\]'"):
        decode(b"\0\0\0\x18ftypheic" + bytes(100))


def test_heic_is_read_with_its_package() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = noise(2, 2).repeat(32, axis=0).repeat(32, axis=1)
    blob = saved(pixels, "HEIF", quality=95)
    assert is_image(blob[:HEAD_BYTES])
    assert np.abs(np.asarray(decode(blob), int) - pixels).mean() < 16


@pytest.mark.parametrize("content", [b"no image", b"8BPS\0\x01" + bytes(50), b"\0\0\0\x18ftypmif1" + bytes(50)])
def test_an_error_has_no_address_in_memory(content: bytes) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(content)
    assert " at 0x" not in str(caught.value)
