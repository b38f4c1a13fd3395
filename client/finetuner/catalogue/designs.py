"""The designs of the catalogue: what can vary, and which split a design belongs to."""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from random import Random

from finetuner.catalogue.colours import COLOURS, accents
from finetuner.catalogue.drawing.patterns import PATTERNS
from finetuner.catalogue.image import randomness

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Design:
    """One garment as its maker would describe it. Two items never share a design."""

    garment: str
    colour: str
    pattern: str
    accent: str
    """Colour of the pattern; empty when plain."""
    sleeve: str
    """``sleeveless``, ``short`` or ``long``; empty where it goes without saying."""
    length: str
    """``short``, ``knee``, ``cropped`` or ``long``; empty where it goes without saying."""
    fit: str
    """``narrow``, ``wide`` or empty for the usual fit."""
    neck: str
    """``round``, ``v``, ``turtle`` or empty."""


@dataclass(frozen=True)
class Range:
    """The choices that one garment leaves to its maker; an attribute without choices stays empty."""

    sleeve: tuple[str, ...] = ("",)
    length: tuple[str, ...] = ("",)
    fit: tuple[str, ...] = ("", "narrow", "wide")
    neck: tuple[str, ...] = ("",)


_SLEEVES = ("sleeveless", "short", "long")
_LENGTHS = ("short", "knee", "long")
GARMENTS: dict[str, Range] = {
    "t-shirt": Range(sleeve=("short", "long"), neck=("round", "v")),
    "tank top": Range(neck=("round", "v")),
    "shirt": Range(sleeve=("short", "long")),
    "sweater": Range(neck=("round", "v", "turtle")),
    "hoodie": Range(),
    "cardigan": Range(),
    "jacket": Range(),
    "coat": Range(length=_LENGTHS),
    "vest": Range(fit=("",)),
    "dress": Range(sleeve=_SLEEVES, length=_LENGTHS, neck=("round", "v", "turtle")),
    "skirt": Range(length=_LENGTHS),
    "trousers": Range(length=("cropped", "long")),
    "shorts": Range(),
    "jumpsuit": Range(sleeve=_SLEEVES, neck=("round", "v")),
}


def designs(seed: int) -> Iterator[tuple[str, Design]]:
    """Every item of a seed in order: its id and its design, each design once. Endless in practice."""
    rng = randomness(seed, "designs")
    seen: set[Design] = set()
    while True:
        design = _drawn(rng)
        if design not in seen:
            yield f"item-{len(seen):05d}", design
            seen.add(design)


def split_of(design: Design) -> str:
    """The split of a design, by a hash of the design itself.

    So no design crosses splits, whatever the seed: a model trained on one seed's train items has seen no
    test item of any other seed either. About 5 in 6 are train, 1 in 18 validation, 1 in 9 test.
    """
    digest = hashlib.sha256("/".join(astuple(design)).encode()).digest()
    place = int.from_bytes(digest[:8], "big") % 18
    return "validation" if place == 0 else "test" if place <= 2 else "train"


def _drawn(rng: Random) -> Design:
    garment = rng.choice(list(GARMENTS))
    choices = GARMENTS[garment]
    colour = rng.choice(list(COLOURS))
    # Plain garments are the most common, as in a shop, and the hardest to tell apart.
    pattern = "plain" if rng.random() < 0.35 else rng.choice([name for name in PATTERNS if name != "plain"])
    return Design(
        garment=garment,
        colour=colour,
        pattern=pattern,
        accent="" if pattern == "plain" else rng.choice(accents(colour)),
        sleeve=rng.choice(choices.sleeve),
        length=rng.choice(choices.length),
        fit=rng.choice(choices.fit),
        neck=rng.choice(choices.neck),
    )
