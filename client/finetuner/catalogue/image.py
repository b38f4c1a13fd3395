"""A generated image with its captions, and the random numbers that it is made from."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from PIL import Image

LANGUAGES = ("en", "de")


@dataclass(frozen=True)
class CatalogueImage:
    """One generated image of one item, with a caption in each language."""

    item: str
    """Stable id of the item, such as `item-00042`; all images of one item share it."""
    name: str
    """Stable id of this image, such as `item-00042-1`."""
    jpeg: bytes
    """The image as an RGB JPEG file; `fashion` and `shapes` state its size in pixels."""
    captions: Mapping[str, str]
    """One caption per language: `{"en": ..., "de": ...}`."""


def randomness(*path: object) -> Random:
    """Return a random generator that depends on `path` alone, such as `randomness(seed, "item-00042", 1)`.

    Each image has its own generators, so it does not depend on the images generated before it. SHA-256 seeds them
    because Python's `hash` of a string differs from process to process.
    """
    digest = hashlib.sha256("/".join(str(part) for part in path).encode()).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """Return the image as JPEG bytes; `quality` is 1 (worst) to 95."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
