"""Scenes: the content of an image of the shapes domain."""

from dataclasses import dataclass

from .colours import COLOURS, accents, distance
from .image import randomness

FORMS = ("circle", "square", "triangle", "star", "hexagon", "cross", "ring", "diamond", "heart", "rectangle")
STRETCHES = ("", "long", "short", "wide", "narrow")
"""Departures of a shape from its usual proportions; '' is none."""
SIZES = ("", "small", "large")
POSITIONS = ("", "left", "right", "top", "bottom")
SHAPE_PATTERNS = ("plain", "plain", "stripes", "lines", "dots", "checks", "flowers")


@dataclass(frozen=True)
class Scene:
    """The content of one image of the shapes domain; its captions are made from nothing else."""

    form: str
    colour: str
    pattern: str
    accent: str
    """Colour of the pattern; empty for a plain surface."""
    stretch: str
    size: str
    position: str
    count: int
    background: str
    """Colour of the background."""


def scene_of(seed: int, number: int) -> Scene:
    """Return the scene at one position of the seed's sequence."""
    rng = randomness(seed, "scene", number)
    colour = rng.choice(list(COLOURS))
    pattern = rng.choice(SHAPE_PATTERNS)
    return Scene(
        form=rng.choice(FORMS),
        colour=colour,
        pattern=pattern,
        accent="" if pattern == "plain" else rng.choice(accents(colour)),
        stretch=rng.choice(STRETCHES),
        size=rng.choice(SIZES),
        position=rng.choice(POSITIONS) if rng.random() < 0.35 else "",
        count=rng.choice((1, 1, 1, 1, 1, 1, 2, 3)),
        background=rng.choice([name for name in COLOURS if distance(name, colour) > 70]),
    )
