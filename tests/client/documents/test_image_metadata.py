"""Damaged and oversized metadata beside good pixels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from finetuner.documents.image_metadata import without_metadata
from finetuner.documents.images import decode
from finetuner.sources.local_images import LocalImages
from tests.client.documents.made_images import ORIENTATION, chunk, exif_with, jpeg_with, noise, png_with, saved

LARGE = b"x" * (3 * 2**20)
TURNED = (ORIENTATION, 3, 1, b"\x06\0\0\0")


def is_noise(blob: bytes) -> bool:
    return np.array_equal(np.asarray(decode(blob)), noise())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"tEXt", b"Comment\0" + LARGE),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LARGE)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(LARGE)),
        *(chunk(kind, b"odd", checksum=1) for kind in (b"tEXt", b"iCCP", b"eXIf", b"pHYs", b"sRGB", b"abCd")),
        *(chunk(kind, b"") for kind in (b"gAMA", b"cHRM", b"pHYs", b"iCCP", b"acTL", b"eXIf")),
    ],
    ids=lambda odd: f"{odd[4:8].decode()} {len(odd)}",
)
def test_a_png_is_read_whatever_its_optional_chunks_hold(tmp_path: Path, odd: bytes, late: bool) -> None:
    blob = png_with(odd, late=late)
    assert is_noise(blob)
    (tmp_path / "0.png").write_bytes(blob)
    LocalImages().check(str(tmp_path / "0.png"))
    assert LocalImages().read(str(tmp_path / "0.png")) == blob


def test_the_orientation_of_a_png_stays() -> None:
    exif = exif_with(TURNED).removeprefix(b"Exif\0\0")
    assert decode(png_with(chunk(b"eXIf", exif), chunk(b"tEXt", b"Comment\0" + LARGE))).size == (16, 24)


@pytest.mark.filterwarnings("ignore:.*(Truncated File Read|Skipping tag)")  # of Pillow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("odd_first", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 5, 1, b"\xff\0\0\0"),  # a fraction beyond the end
        (0x9003, 2, 99_999, b"\xff\xff\xff\xff"),
        (0x8769, 4, 1, b"\xff\xff\xff\x7f"),
        (0x927C, 7, 0xFFFFFFFF, bytes(4)),
        (0xA420, 0, 1, bytes(4)),
        (0x010F, 99, 1, bytes(4)),
        (0x8298, 5, 1, bytes(4)),
        (0x0131, 2, 3, b"\xff\xfe\xfd\0"),
    ],
)
def test_the_orientation_counts_beside_an_odd_tag(kind: str, odd: tuple[int, int, int, bytes], odd_first: bool) -> None:
    exif = exif_with(*((odd, TURNED) if odd_first else (TURNED, odd)))
    found = np.asarray(decode(saved(noise(), kind, exif=exif, **({} if kind == "JPEG" else {"lossless": True}))))
    assert found.shape == (24, 16, 3)
    if kind != "JPEG":
        assert np.array_equal(found, np.rot90(noise(), -1))


@pytest.mark.parametrize(
    ("kind", "content"),
    [(0xE0, b"JFIF\0"), (0xED, b"Photoshop 3.0\08BIM\xf8\x85"), (0xEE, b"Adobe"), (0xE2, b"ICC_PROFILE\0"),
     (0xE1, b"Exif\0\0MM"), (0xFE, b"")],
)  # fmt: skip
def test_a_jpeg_is_read_whatever_its_segments_hold(kind: int, content: bytes) -> None:
    expected = np.asarray(decode(saved(noise(), "JPEG")))
    assert np.array_equal(np.asarray(decode(jpeg_with(kind, content))), expected)


def test_without_metadata_the_pixels_stay() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        blob = saved(noise(), kind)
        assert np.array_equal(np.asarray(decode(without_metadata(blob))), np.asarray(decode(blob)))
    cmyk = saved(decode(saved(noise(), "PNG")).convert("CMYK"), "JPEG")
    assert np.array_equal(np.asarray(decode(without_metadata(cmyk))), np.asarray(decode(cmyk)))


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_cut_file_ends_without_metadata_too(cut: int) -> None:
    for kind in ("PNG", "JPEG"):
        without_metadata(saved(noise(), kind)[:cut])
