"""The built-in fashion catalogue: drawn garments with English and German captions, split by item."""

from collections.abc import Iterator
from itertools import islice
from random import Random

from .colours import COLOURS, distance
from .designs import SPLITS, designs, split_of
from .drawing.photograph import photograph
from .image import LANGUAGES, CatalogueImage, randomness
from .words.fashion_captions import describe

IMAGES_PER_ITEM = 2
ITEMS = {"train": 1500, "validation": 100, "test": 200}
"""Default number of items per split."""
MOST_ITEMS = 5_000
"""Largest number of items per split; the designs run out far beyond it."""


def fashion(split: str, *, seed: int = 0, items: int | None = None) -> Iterator[CatalogueImage]:
    """Yield the catalogue's images, item by item, `IMAGES_PER_ITEM` per item.

    The same seed gives the same bytes in every process, in any order of calls. The first items of a split do not
    depend on `items`. No design is in two splits, not even across seeds.

    Args:
        split: `train`, `validation` or `test`.
        seed: of the catalogue.
        items: number of items, 1 to `MOST_ITEMS`; None for the split's default in `ITEMS`.

    Yields:
        RGB JPEGs of 120 x 120 pixels, each with a caption per language.

    Raises:
        ValueError: an unknown split, or `items` out of range; raised by the call, before any image is drawn.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Got {split!r}. Choose one of them.")
    if items is not None and not 1 <= items <= MOST_ITEMS:
        raise ValueError(
            f"items must be 1 to {MOST_ITEMS}. Got {items}. Leave it out for the {ITEMS[split]} of {split}."
        )
    wanted = ITEMS[split] if items is None else items
    return _images(split, seed, wanted)


def _images(split: str, seed: int, wanted: int) -> Iterator[CatalogueImage]:
    own = ((item, design) for item, design in designs(seed) if split_of(design) == split)
    for item, design in islice(own, wanted):
        for number in range(1, IMAGES_PER_ITEM + 1):
            name = f"{item}-{number}"
            image_rng, words = randomness(seed, "look", name), randomness(seed, "captions", name)
            background = _background(design.colour, image_rng)
            captions = {language: describe(design, background, language, words) for language in LANGUAGES}
            jpeg = photograph(design, background, randomness(seed, "make", item), image_rng)
            yield CatalogueImage(item=item, name=name, jpeg=jpeg, captions=captions)


def _background(colour: str, rng: Random) -> str:
    """Return a background colour that differs from the garment's; half are neutral, as in a shop."""
    apart = [name for name in COLOURS if distance(name, colour) > 75]
    neutral = [name for name in apart if name in ("white", "grey", "beige", "brown", "light blue")]
    return rng.choice(neutral if neutral and rng.random() < 0.5 else apart)
