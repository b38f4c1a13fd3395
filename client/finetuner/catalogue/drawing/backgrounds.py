"""Backgrounds of one colour: plain, graded or textured."""

from random import Random

import numpy as np
from PIL import Image

from ..colours import RGB
from .canvas import Field, image_of

KINDS = ("plain", "gradient", "noise", "boards", "tiles")


def draw_background(kind: str, colour: RGB, side: int, rng: Random) -> Image.Image:
    """Return an RGB image of `side` x `side` pixels in shades of the colour.

    Raises:
        ValueError: a kind that is not in `KINDS`.
    """
    noise = np.random.default_rng(rng.getrandbits(32))
    base = np.array(colour, dtype=np.float32)
    match kind:
        case "plain":
            return Image.new("RGB", (side, side), colour)
        case "gradient":
            along = np.linspace(-1, 1, side, dtype=np.float32)
            turn = rng.uniform(0, 2 * np.pi)
            slope = np.float32(np.cos(turn)) * along[None, :] + np.float32(np.sin(turn)) * along[:, None]
            return image_of(base + 34 * slope[..., None])
        case "noise":
            cells = rng.choice((8, 16, 64))
            grain = noise.normal(0, 15, (cells, cells)).astype(np.float32)
            return image_of(base + _stretched(grain, side)[..., None])
        case "boards":
            return image_of(base + _boards(side, rng, noise)[..., None])
        case "tiles":
            cell = side // rng.choice((4, 5, 6))
            steps = np.arange(side)
            joint = ((steps % cell) < 3)[None, :] | ((steps % cell) < 3)[:, None]
            tones = noise.normal(0, 5, (side // cell + 1, side // cell + 1)).astype(np.float32)
            shown = tones[np.ix_(steps // cell, steps // cell)] - 26 * joint
            return image_of(base + shown[..., None])
    raise ValueError(f"background must be one of {', '.join(KINDS)}. Got {kind!r}. Choose one of them.")


def _stretched(grain: Field, side: int) -> Field:
    """Return a small field, enlarged to `side` x `side` by bicubic interpolation."""
    image = Image.fromarray(grain).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def _boards(side: int, rng: Random, noise: np.random.Generator) -> Field:
    """Return wooden boards, (side, side): each has its own tone, fine grain and a dark joint."""
    count = rng.choice((3, 4, 5))
    width = side // count + 1
    steps = np.arange(side)
    tone = noise.normal(0, 9, count + 1).astype(np.float32)[steps // width]
    grain = noise.normal(0, 5, side).astype(np.float32)
    across = tone + grain - 30 * ((steps % width) < 3)
    field = np.broadcast_to(across[:, None], (side, side)).astype(np.float32)
    return field if rng.random() < 0.5 else np.ascontiguousarray(field.T)
