"""Textures: draws each pattern in two colours."""

import numpy as np

from ..colours import RGB
from ..patterns import PATTERNS
from .canvas import Field


def coverage(pattern: str, x: Field, y: Field, period: float) -> Field:
    """Return the share of the accent colour at each point.

    Args:
        pattern: a key of PATTERNS.
        x: float32 coordinates of any shape.
        y: the same shape.
        period: distance between motifs, in the units of `x` and `y`.

    Returns:
        float32 in [0, 1], of the shape of `x`.

    Raises:
        ValueError: an unknown pattern.
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
            # Full colour where two bands cross, half of it on a single band, as in woven checks.
            woven: Field = ((across < 0.5).astype(np.float32) + (down < 0.5).astype(np.float32)) * 0.5
            return woven
        case "flowers":
            right, up = _staggered(x, y, period * 1.25)
            petals = np.hypot(right, up) < 0.25 + 0.13 * np.cos(5 * np.arctan2(up, right))
            heart = np.hypot(right, up) < 0.09
            blossom: Field = (petals & ~heart).astype(np.float32)
            return blossom
    raise ValueError(f"pattern must be one of {', '.join(PATTERNS)}. Got {pattern!r}. Choose one of them.")


def texture(pattern: str, base: RGB, accent: RGB, x: Field, y: Field, period: float, angle: float = 0.0) -> Field:
    """Return the pattern in colours, (height, width, 3) float32 in 0 to 255; `angle` rotates it, in radians."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    share = coverage(pattern, cos * x + sin * y, cos * y - sin * x, period)[..., None]
    below, above = np.array(base, dtype=np.float32), np.array(accent, dtype=np.float32)
    mixed: Field = below + share * (above - below)
    return mixed


def _staggered(x: Field, y: Field, period: float) -> tuple[Field, Field]:
    """Return coordinates within cells, -0.5 to 0.5; every second row is shifted by half a cell."""
    row = np.floor(y / period)
    return (x / period + 0.5 * (row % 2)) % 1.0 - 0.5, (y / period) % 1.0 - 0.5
