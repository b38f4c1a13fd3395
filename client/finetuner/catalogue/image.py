"""An image with its captions: what both generated domains yield."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from PIL import Image

LANGUAGES = ("en", "de")


@dataclass(frozen=True)
class CatalogueImage:
    """One generated image of one item, and a sentence about it in each language."""

    item: str
    """Stable id of what is shown, such as ``item-00042``; every image of one item carries the same id."""
    name: str
    """Stable id of this image, such as ``item-00042-1``."""
    jpeg: bytes
    """The image as an RGB JPEG file; see the domain for its size in pixels."""
    captions: Mapping[str, str]
    """One caption per language: ``{"en": ..., "de": ...}``."""


def randomness(*path: object) -> Random:
    """A random generator that depends on ``path`` alone, such as ``randomness(seed, "item-00042", 1)``.

    Every image has its own, so an image is the same whichever were asked for before it. The key goes
    through SHA-256 because Python's own ``hash`` of a string differs from process to process.
    """
    digest = hashlib.sha256("/".join(str(part) for part in path).encode()).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """The image as JPEG bytes; ``quality`` is 1 (worst) to 95."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
