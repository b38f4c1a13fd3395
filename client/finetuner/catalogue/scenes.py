"""What an image of the shapes domain can show."""

from dataclasses import dataclass

from finetuner.catalogue.colours import COLOURS, accents, distance
from finetuner.catalogue.image import randomness

FORMS = ("circle", "square", "triangle", "star", "hexagon", "cross", "ring", "diamond", "heart", "rectangle")
STRETCHES = ("", "long", "short", "wide", "narrow")
"""How a shape departs from its usual proportions; usually not at all."""
SIZES = ("", "small", "large")
PLACES = ("", "left", "right", "top", "bottom")
SHAPE_PATTERNS = ("plain", "plain", "stripes", "lines", "dots", "checks", "flowers")


@dataclass(frozen=True)
class Scene:
    """What one image of the shapes domain shows; captions are made from nothing else."""

    form: str
    colour: str
    pattern: str
    accent: str
    """Colour of the pattern; empty when plain."""
    stretch: str
    size: str
    place: str
    count: int
    ground: str
    """Colour of the background."""


def scene_of(seed: int, number: int) -> Scene:
    """The scene at one position of the seed's sequence."""
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
        place=rng.choice(PLACES) if rng.random() < 0.35 else "",
        count=rng.choice((1, 1, 1, 1, 1, 1, 2, 3)),
        ground=rng.choice([name for name in COLOURS if distance(name, colour) > 70]),
    )
