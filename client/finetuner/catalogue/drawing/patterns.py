"""The patterns of both domains: how they look as a texture, and what they are called."""

from dataclasses import dataclass

import numpy as np

from finetuner.catalogue.colours import RGB
from finetuner.catalogue.drawing.canvas import Field


@dataclass(frozen=True)
class Pattern:
    """The words of one pattern. ``motif`` is what lies on the ground colour: ``with white dots``."""

    en: tuple[str, ...]
    """English adjectives."""
    de: tuple[str, ...]
    """German adjective stems."""
    motif_en: str = ""
    """English plural of the motif; empty for a plain surface."""
    motif_de: str = ""
    """German dative plural of the motif; empty for a plain surface."""


PATTERNS: dict[str, Pattern] = {
    "plain": Pattern(("plain", "single-coloured"), ("einfarbig", "ungemustert")),
    "stripes": Pattern(("striped", "horizontally striped"), ("gestreift", "quergestreift"), "stripes", "Streifen"),
    "lines": Pattern(("vertically striped",), ("längsgestreift",), "vertical stripes", "Längsstreifen"),
    "dots": Pattern(("dotted", "spotted"), ("gepunktet", "getupft"), "dots", "Punkten"),
    "checks": Pattern(("checked", "chequered"), ("kariert",), "checks", "Karos"),
    "flowers": Pattern(("floral", "flowery"), ("geblümt",), "flowers", "Blumen"),
}


def coverage(pattern: str, x: Field, y: Field, period: float) -> Field:
    """How much of the accent colour each point shows, 0 to 1, float32, in the shape of ``x`` and ``y``.

    ``period`` is the distance of one motif to the next in the units of ``x`` and ``y``.
    """
    across, down = (x / period) % 1.0, (y / period) % 1.0
    match pattern:
        case "plain":
            return np.zeros(x.shape, dtype=np.float32)
        case "stripes":
            return (down < 0.42).astype(np.float32)
        case "lines":
            return (across < 0.42).astype(np.float32)
        case "dots":
            right, up = _staggered(x, y, period)
            inside: Field = (np.hypot(right, up) < 0.29).astype(np.float32)
            return inside
        case "checks":
            # One colour where bands cross, half of it where only one runs: the look of woven checks.
            woven: Field = ((across < 0.5).astype(np.float32) + (down < 0.5).astype(np.float32)) * 0.5
            return woven
        case "flowers":
            right, up = _staggered(x, y, period * 1.25)
            petals = np.hypot(right, up) < 0.25 + 0.13 * np.cos(5 * np.arctan2(up, right))
            heart = np.hypot(right, up) < 0.09
            blossom: Field = (petals & ~heart).astype(np.float32)
            return blossom
    raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}. Got {pattern!r}.")


def texture(pattern: str, ground: RGB, accent: RGB, x: Field, y: Field, period: float, angle: float = 0.0) -> Field:
    """The pattern as colours, (height, width, 3) float32 of 0 to 255; ``angle`` in radians tilts it."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    share = coverage(pattern, cos * x + sin * y, cos * y - sin * x, period)[..., None]
    below, above = np.array(ground, dtype=np.float32), np.array(accent, dtype=np.float32)
    mixed: Field = below + share * (above - below)
    return mixed


def _staggered(x: Field, y: Field, period: float) -> tuple[Field, Field]:
    """Coordinates within cells, -0.5 to 0.5, every second row shifted by half a cell."""
    row = np.floor(y / period)
    return (x / period + 0.5 * (row % 2)) % 1.0 - 0.5, (y / period) % 1.0 - 0.5
