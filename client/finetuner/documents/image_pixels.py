"""Pixels of an opened image file as upright RGB: its orientation, its ground, and its depth."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from ..exceptions import UndecodableImage

if TYPE_CHECKING:
    from PIL.Image import Image

RULES = 2
"""Number of these rules. A change makes pixels that were cached before it unusable."""
ORIENTATION = 0x0112
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
NEARLY_WHITE = 224


def upright_rgb(image: Image) -> Image:
    """Return an opened image in mode RGB, rotated upright.

    A transparent image lies on white; on black if more than half of what is visible is nearly white. One that is
    transparent everywhere keeps its colours. 16-bit grey keeps its upper 8 bits, and whole numbers of any depth that
    are at most 255 stay as they are; Pillow would turn them black.

    Raises:
        UndecodableImage: pixels that 8 bits cannot hold: floating point, negative or above 65,535, or colours of 16
            bits that are all below 256.
    """
    deep = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    image.load()
    image = _upright(image)
    if image.mode == "F":
        raise UndecodableImage("image must have whole numbers as pixels. Got floating point. Convert it to 8 bits.")
    if image.mode.startswith("I"):
        return _from_whole_numbers(image)
    rgb = _on_ground(image) if image.has_transparency_data else image.convert("RGB")
    if deep and rgb.getbbox() is None:
        raise UndecodableImage("image must have colours up to 65535 in 16 bits. Got black. Convert it to 8 bits.")
    return rgb


def _upright(image: Image) -> Image:
    """Return an image rotated by its orientation. `ImageOps.exif_transpose` fails on tags that it cannot write."""
    from PIL.Image import Transpose

    value: object = None
    with suppress(Exception):  # the parsers of Pillow's plug-ins raise anything
        value = image.getexif().get(ORIENTATION)
    if value is None:  # Pillow stops reading at some odd tags
        value = _orientation(image.info.get("exif") or b"")
    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    method = methods.get(value) if isinstance(value, int) else None
    return image if method is None else image.transpose(method)


def _orientation(exif: bytes) -> int | None:
    """Return the orientation in the first directory of EXIF tags, None without any."""
    tags = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if tags.startswith(b"II") else "big"
    first = int.from_bytes(tags[4:8], order)
    last = min(first + 12 * int.from_bytes(tags[first : first + 2], order), len(tags))
    for start in range(first + 2, last, 12):
        if int.from_bytes(tags[start : start + 2], order) == ORIENTATION:
            return int.from_bytes(tags[start + 8 : start + 10], order)
    return None


def _from_whole_numbers(image: Image) -> Image:
    import numpy as np
    from PIL import Image as Images

    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UndecodableImage(f"image must have pixels in [0, 65535]. Got {low} to {high}. Convert it to 8 bits.")
    return Images.fromarray((values >> 8 if high > 255 else values).astype(np.uint8)).convert("RGB")


def _on_ground(image: Image) -> Image:
    """Return a transparent image in front of white or black."""
    from PIL import Image as Images
    from PIL import ImageChops

    image = image.convert("RGBA")
    *colours, alpha = image.split()
    visible = _total(alpha.histogram())
    if not visible:
        return image.convert("RGB")
    darkest = ImageChops.darker(ImageChops.darker(colours[0], colours[1]), colours[2])
    white = _total(alpha.histogram(darkest.point([255 * (value >= NEARLY_WHITE) for value in range(256)])))
    ground = Images.new("RGB", image.size, BLACK if 2 * white > visible else WHITE)
    ground.paste(image, mask=alpha)
    return ground


def _total(histogram: list[int]) -> int:
    return sum(value * count for value, count in enumerate(histogram))
