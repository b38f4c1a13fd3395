"""The built-in fashion catalogue: drawn garments with English and German captions, split by item."""

from collections.abc import Iterator
from itertools import islice
from random import Random

from finetuner.catalogue.colours import COLOURS, distance
from finetuner.catalogue.designs import SPLITS, designs, split_of
from finetuner.catalogue.drawing.photograph import photograph
from finetuner.catalogue.image import LANGUAGES, CatalogueImage, randomness
from finetuner.catalogue.words.fashion_captions import describe

IMAGES_PER_ITEM = 2
ITEMS = {"train": 1500, "validation": 100, "test": 200}
"""How many items a split has unless asked otherwise."""
MOST_ITEMS = 5_000
"""How many items a split can be asked for; far beyond it the designs would run out."""


def fashion(split: str, *, seed: int = 0, items: int | None = None) -> Iterator[CatalogueImage]:
    """The catalogue's images, `IMAGES_PER_ITEM` of each item, item after item.

    ``split`` is ``train``, ``validation`` or ``test``; ``items`` is how many items (default: `ITEMS`). Each
    image is an RGB JPEG of 120 x 120 pixels. The same seed gives the same bytes in every process and
    whatever was asked for before, and the first items of a split do not depend on how many are asked for.
    No design is in two splits, also across seeds.

    Raises ValueError for an unknown split or ``items`` outside 1 to `MOST_ITEMS`, before anything is drawn.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Got {split!r}.")
    if items is not None and not 1 <= items <= MOST_ITEMS:
        raise ValueError(
            f"items must be 1 to {MOST_ITEMS}. Got {items}: leave it out for the {ITEMS[split]} of {split}."
        )
    wanted = ITEMS[split] if items is None else items
    return _images(split, seed, wanted)


def _images(split: str, seed: int, wanted: int) -> Iterator[CatalogueImage]:
    own = ((item, design) for item, design in designs(seed) if split_of(design) == split)
    for item, design in islice(own, wanted):
        for number in range(1, IMAGES_PER_ITEM + 1):
            name = f"{item}-{number}"
            look, words = randomness(seed, "look", name), randomness(seed, "captions", name)
            ground = _ground(design.colour, look)
            captions = {language: describe(design, ground, language, words) for language in LANGUAGES}
            make = randomness(seed, "make", item)
            yield CatalogueImage(item=item, name=name, jpeg=photograph(design, ground, make, look), captions=captions)


def _ground(colour: str, look: Random) -> str:
    """The background's colour: half the time a neutral one as in a shop, never too close to the garment's."""
    apart = [name for name in COLOURS if distance(name, colour) > 75]
    neutral = [name for name in apart if name in ("white", "grey", "beige", "brown", "light blue")]
    return look.choice(neutral if neutral and look.random() < 0.5 else apart)
