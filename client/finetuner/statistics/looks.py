"""The look of an image: a 64-bit perceptual hash and its colours, by which near duplicates are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 8
MAX_BITS = 6  # that differ between near duplicates
MAX_COLOURS = 10.0  # mean difference of near duplicates, of 255
ONES = np.array([number.bit_count() for number in range(2**16)], dtype=np.uint8)


@dataclass(frozen=True)
class Look:
    """What is kept of an image, 200 bytes and its size."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bits: np.ndarray
    """(4,) uint16, 64 bits: whether each of 8 x 8 grey cells is brighter than its left neighbour (dHash)."""
    colours: np.ndarray
    """(8, 8, 3) uint8, mean colours. The bits alone do not tell a red dress from a blue one."""
    contrast: float
    """Standard deviation of the grey values, of 255. 0 for an image of one colour."""

    @property
    def shorter(self) -> int:
        """Shorter side in pixels."""
        return min(self.width, self.height)

    @property
    def aspect(self) -> float:
        """Width divided by height."""
        return self.width / self.height


def look_at(image: Image, size: tuple[int, int] | None = None) -> Look:
    """Return the look of an image.

    Args:
        image: RGB, of any size.
        size: (width, height) of the file, where `image` is a smaller version of it.
    """
    from PIL.Image import Resampling

    small = image.resize((64, 64), Resampling.BOX) if min(image.size) >= 64 else image
    grey = small.convert("L")
    cells = np.asarray(grey.resize((SIDE + 1, SIDE), Resampling.BOX), dtype=np.int16)
    bits = np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint16)
    colours = np.asarray(small.resize((SIDE, SIDE), Resampling.BOX))
    width, height = size or image.size
    return Look(width, height, bits, colours, float(np.asarray(grey, dtype=np.float32).std()))


def near_groups(looks: Sequence[Look]) -> list[list[int]]:
    """Return the groups of near duplicates: at most MAX_BITS differ, and MAX_COLOURS on average.

    Each image is compared with the first one of every group, not with every member: chains of small steps would join
    images that look different. The time grows with the square of the number of images: 2 s for 20,000.

    Returns:
        Positions in `looks`, ascending, of each group of at least two.
    """
    groups: list[list[int]] = []
    bits = np.empty((len(looks), 4), dtype=np.uint16)
    colours = np.empty((len(looks), SIDE, SIDE, 3), dtype=np.int16)
    for position, look in enumerate(looks):
        count = len(groups)
        near = np.flatnonzero(ONES[bits[:count] ^ look.bits].sum(axis=1, dtype=np.uint8) <= MAX_BITS)
        if near.size:
            near = near[np.abs(colours[near] - look.colours).mean(axis=(1, 2, 3)) <= MAX_COLOURS]
        if near.size:
            groups[int(near[0])].append(position)
            continue
        bits[count], colours[count] = look.bits, look.colours
        groups.append([position])
    return [group for group in groups if len(group) > 1]
