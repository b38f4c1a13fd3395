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
AT_ONCE = 256  # images whose bits are compared with those of all groups
MOST_COMPARED = 100  # groups of the same bits whose colours are compared: images of one colour all have the same bits


@dataclass(frozen=True)
class Look:
    """What is kept of an image, 256 bytes and its size."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bits: np.ndarray
    """(64,) bool: whether each of 8 x 8 grey cells is brighter than its left neighbour (dHash)."""
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
    bits = (cells[:, 1:] > cells[:, :-1]).ravel()
    colours = np.asarray(small.resize((SIDE, SIDE), Resampling.BOX))
    width, height = size or image.size
    return Look(width, height, bits, colours, float(np.asarray(grey, dtype=np.float32).std()))


def near_groups(looks: Sequence[Look]) -> list[list[int]]:
    """Return the groups of near duplicates: at most MAX_BITS differ, and MAX_COLOURS on average.

    Each image is compared with the first one of every group, not with every member: chains of small steps would join
    images that look different. The time grows with the square of the number of images, to seconds for 20,000.

    Returns:
        Positions in `looks`, ascending, of each group of at least two.
    """
    if not looks:
        return []
    signs = np.stack([look.bits for look in looks]).astype(np.float32) * 2 - 1  # (images, 64), a product of 64 if equal
    colours = np.stack([look.colours for look in looks]).astype(np.int16)
    least = SIDE * SIDE - 2 * MAX_BITS
    groups: list[list[int]] = []
    for start in range(0, len(looks), AT_ONCE):
        block = signs[start : start + AT_ONCE]
        firsts = [group[0] for group in groups]
        candidates = [*firsts, *range(start, start + len(block))]
        of_group = {first: number for number, first in enumerate(firsts)}
        near = block @ signs[candidates].T >= least  # (block, candidates)
        for row, position in enumerate(range(start, start + len(block))):
            same_bits = np.flatnonzero(near[row, : len(firsts) + row])[: MOST_COMPARED + AT_ONCE]
            found = [candidates[at] for at in same_bits]
            alike = [first for first in found if first in of_group][:MOST_COMPARED]
            if alike:
                differences = np.abs(colours[alike] - colours[position]).mean(axis=(1, 2, 3))
                alike = [
                    first for first, difference in zip(alike, differences, strict=True) if difference <= MAX_COLOURS
                ]
            if alike:
                groups[of_group[alike[0]]].append(position)
            else:
                of_group[position] = len(groups)
                groups.append([position])
    return [group for group in groups if len(group) > 1]
