"""Decodes and resizes JPEGs without Python's lock, so that all cores of a machine can feed a GPU."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from finetuner.documents.images import check_size

if TYPE_CHECKING:
    from PIL.Image import Image

START, END = b"\xff\xd8\xff", b"\xff\xd9"
MODES = ("RGB", "L")
ORIENTATION, UPRIGHT = 0x0112, 1  # of EXIF
STEPS = ("Resize", "CenterCrop", "MaybeConvertMode")  # of a preprocessing; the last does nothing to RGB


def jpeg_pixels(preprocess: Callable[[Image], torch.Tensor], blob: bytes) -> torch.Tensor | None:
    """Return a JPEG resized and cropped for a model, (3, height, width) uint8, not normalised.

    The pixels are those of Pillow's decoder. torch resizes: a few values of a thousand differ by 1 of 255 from those of
    `pixels.cropped`, by 2 where an image is enlarged.

    Args:
        preprocess: a model's. Its last two steps are to-tensor and normalise.
        blob: any file.

    Returns:
        None where only Pillow can tell: another format or mode, a rotated, damaged or incomplete image, or a
        preprocessing with other steps than resizing and a centre crop.

    Raises:
        ImageTooLarge: above MAX_PIXELS or MAX_SIDE_RATIO.
    """
    if not sizes_only(preprocess) or plain_size(blob) is None:
        return None
    try:
        pixels: torch.Tensor = decode_jpeg(torch.frombuffer(bytearray(blob), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except RuntimeError:  # damaged
        return None
    return resized(preprocess, pixels)


def sizes_only(preprocess: Callable[[Image], torch.Tensor]) -> bool:
    """Return whether a preprocessing only resizes and crops before its last two steps."""
    return all(type(step).__name__ in STEPS for step in _steps(preprocess))


def least_side(preprocess: Callable[[Image], torch.Tensor]) -> int:
    """Return the length that a preprocessing gives an image's shorter side, 0 where it does not resize."""
    sizes = [step.size for step in _steps(preprocess) if type(step).__name__ == "Resize"]
    return max((size if isinstance(size, int) else max(size) for size in sizes), default=0)


def resized(preprocess: Callable[[Image], torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Return images resized and cropped for a model that `sizes_only`.

    Args:
        preprocess: the model's.
        pixels: (..., 3, height, width) uint8.
    """
    for step in _steps(preprocess):
        if type(step).__name__ == "Resize":
            size = [step.size] if isinstance(step.size, int) else list(step.size)
            pixels = functional.resize(pixels, size, step.interpolation, step.max_size, antialias=True)
        elif type(step).__name__ == "CenterCrop":
            pixels = functional.center_crop(pixels, list(step.size))
    return pixels.contiguous()


def _steps(preprocess: Callable[[Image], torch.Tensor]) -> list[Any]:
    steps: list[Any] = preprocess.transforms[:-2]  # type: ignore[attr-defined]
    return steps


def plain_size(blob: bytes) -> tuple[int, int] | None:
    """Return the width and height of a whole, upright JPEG of RGB or grey, or None for any other file.

    Raises:
        ImageTooLarge: above MAX_PIXELS or MAX_SIDE_RATIO.
    """
    from PIL import Image

    if not blob.startswith(START) or not blob.endswith(END):  # libjpeg would paint what is missing grey
        return None
    try:
        image = Image.open(io.BytesIO(blob), formats=("JPEG",))
        upright = "exif" not in image.info or image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT
    except Exception:  # the parsers of Pillow's plug-ins raise anything
        return None
    check_size("image", image.width, image.height)
    return image.size if upright and image.mode in MODES else None
