"""Coloured shapes: the simple domain that clip-mini is pretrained on."""

from collections.abc import Iterator

from .drawing.shape_image import draw
from .image import LANGUAGES, CatalogueImage, randomness
from .scenes import scene_of
from .words.shape_captions import describe


def shapes(count: int, *, seed: int = 0, start: int = 0) -> Iterator[CatalogueImage]:
    """Yield images `start` to `start + count - 1` of a seed's endless sequence.

    The same seed and position give the same bytes.

    Args:
        count: number of images, at least 1.
        seed: of the sequence.
        start: position of the first image, from 0.

    Yields:
        RGB JPEGs of 80 x 80 pixels, each with a caption per language.

    Raises:
        ValueError: `count` below 1 or `start` below 0.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1. Got {count}. Pass the number of images.")
    if start < 0:
        raise ValueError(f"start must be at least 0. Got {start}. Pass the position of the first image.")
    for number in range(start, start + count):
        name = f"shape-{number:06d}"
        scene = scene_of(seed, number)
        words = randomness(seed, "captions", number)
        captions = {language: describe(scene, language, words) for language in LANGUAGES}
        yield CatalogueImage(
            item=name, name=name, jpeg=draw(scene, randomness(seed, "look", number)), captions=captions
        )
