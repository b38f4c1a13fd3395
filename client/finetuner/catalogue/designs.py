"""Designs of the fashion catalogue: their attributes, their sequence and their splits."""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from random import Random

from .colours import COLOURS, accents
from .image import randomness
from .patterns import PATTERNS

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Design:
    """The attributes of one garment. No two items share a design."""

    garment: str
    colour: str
    pattern: str
    accent: str
    """Colour of the pattern; empty for a plain surface."""
    sleeve: str
    """`sleeveless`, `short` or `long`; empty where the garment implies it."""
    length: str
    """`short`, `knee`, `cropped` or `long`; empty where the garment implies it."""
    fit: str
    """`narrow`, `wide` or empty for the usual fit."""
    neck: str
    """`round`, `v`, `turtle` or empty."""


@dataclass(frozen=True)
class Range:
    """The values that each attribute of a garment may take."""

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
    """Yield the id and design of each item of a seed, in order, without end; no design comes twice."""
    rng = randomness(seed, "designs")
    seen: set[Design] = set()
    while True:
        design = _drawn(rng)
        if design not in seen:
            yield f"item-{len(seen):05d}", design
            seen.add(design)


def split_of(design: Design) -> str:
    """Return the split of a design: about 5 in 6 are train, 1 in 18 validation, 1 in 9 test.

    The split follows from a hash of the design, so it is the same under every seed. A model trained on one seed's
    train items has seen no test item of any seed.
    """
    digest = hashlib.sha256("/".join(astuple(design)).encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 18
    return "validation" if bucket == 0 else "test" if bucket <= 2 else "train"


def _drawn(rng: Random) -> Design:
    garment = rng.choice(list(GARMENTS))
    choices = GARMENTS[garment]
    colour = rng.choice(list(COLOURS))
    # Plain garments are the most common in shops, and the hardest to distinguish.
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
