"""Pixels as RGB: transparent ground, and whole numbers of any depth."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument
from tests.client.documents.made_images import chunk, noise, png_with, saved

SHAPES = ((2, 2, 8, 8), (4, 8, 14, 12))


def drawing(colour: tuple[int, int, int], box: tuple[int, int, int, int], alpha: int = 255) -> Image.Image:
    """Return a rectangle on transparent ground, whose hidden pixels have the same colour."""
    image = Image.new("RGBA", (16, 16), (*colour, 0))
    image.paste((*colour, alpha), box)
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("colour", "ground"),
    [((0, 0, 0), 255), ((40, 0, 0), 255), ((128, 128, 128), 255), ((250, 0, 0), 255), ((255, 255, 0), 255),
     ((255, 255, 255), 0), ((240, 245, 250), 0)],
)  # fmt: skip
def test_transparent_ground_is_no_colour_of_the_content(kind: str, colour: tuple[int, int, int], ground: int) -> None:
    options = {"AVIF": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    first, second = (np.asarray(decode(saved(drawing(colour, box), kind, **options)), int) for box in SHAPES)
    assert np.abs(first - second).max() > 100
    assert np.abs(first[0, 0] - ground).max() <= 8
    assert np.abs(first[4, 4] - colour).max() <= 8


def test_every_kind_of_transparency_counts() -> None:
    black = drawing((0, 0, 0), SHAPES[0])
    expected = decode(saved(black, "PNG"))
    assert expected.getpixel((0, 0)) == (255, 255, 255)
    grey = Image.new("L", (16, 16), 9)
    grey.paste(0, SHAPES[0])
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([0, 0, 0, 7, 7, 7])
    palette.paste(0, SHAPES[0])
    rgb = Image.merge("RGB", [grey] * 3)
    for image, kind, options in (
        (black.convert("LA"), "PNG", {}),
        (grey, "PNG", {"transparency": 9}),
        (rgb, "PNG", {"transparency": (9, 9, 9)}),
        (palette, "PNG", {"transparency": 1}),
        (palette, "GIF", {"transparency": 1}),
    ):
        assert np.array_equal(decode(saved(image, kind, **options)), expected)


def test_opaque_and_hidden_pixels_stay() -> None:
    pixels = noise(channels=4)
    for alpha in (0, 255):  # transparent everywhere: the alpha channel carries nothing
        pixels[..., 3] = alpha
        assert np.array_equal(np.asarray(decode(saved(pixels, "PNG"))), pixels[..., :3])


def test_half_transparent_pixels_are_mixed_with_the_ground() -> None:
    assert decode(saved(drawing((0, 0, 0), SHAPES[0], alpha=128), "PNG")).getpixel((4, 4)) == (127, 127, 127)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16])
def test_whole_numbers_up_to_255_stay(dtype: Any) -> None:
    pixels = noise(channels=1)[..., 0]
    found = np.asarray(decode(saved(pixels.astype(dtype), "TIFF")))
    assert np.array_equal(found, np.repeat(pixels[..., None], 3, axis=2))


def test_whole_numbers_of_sixteen_bits_keep_the_upper_eight() -> None:
    pixels = np.arange(65536, dtype=np.int32).reshape(256, 256)
    assert np.array_equal(np.asarray(decode(saved(pixels, "TIFF")))[..., 0], pixels >> 8)


@pytest.mark.parametrize(("low", "high"), [(-1, 200), (0, 65536), (-(2**31), 2**31 - 1)])
def test_whole_numbers_beyond_sixteen_bits_are_refused(low: int, high: int) -> None:
    pixels = np.full((4, 4), low, dtype=np.int32)
    pixels[0, 0] = high
    with pytest.raises(InvalidDocument, match=rf"pixels in \[0, 65535\]. Got {low} to {high}. Convert it to 8 bits"):
        decode(saved(pixels, "TIFF"))


def test_sixteen_bit_colours_that_turn_black_are_refused() -> None:
    def png(high: int) -> bytes:
        rows = b"".join(b"\0" + bytes([high, value]) * 12 for value in range(4))
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
        return png_with()[:8] + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    assert decode(png(9)).getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(InvalidDocument, match="colours up to 65535 in 16 bits. Got black"):
        decode(png(0))
