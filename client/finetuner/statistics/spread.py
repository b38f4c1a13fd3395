"""The spread of a series of numbers, and the odd ones in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

ODD = 2.0  # times the median, or the median times
MOST_ODD = 10


@dataclass(frozen=True)
class Spread:
    """Five numbers of a series."""

    least: float
    """The least."""
    median: float
    """Half are at most it."""
    high: float
    """95% are at most it."""
    most: float
    """The most."""
    sum: float
    """Of all."""

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Return the spread of at least one number."""
        values = np.asarray(numbers, dtype=np.float64)
        middle, high = np.percentile(values, [50, 95], method="higher")
        return cls(float(values.min()), float(middle), float(high), float(values.max()), float(values.sum()))


@dataclass(frozen=True)
class Found:
    """Documents with something in common."""

    count: int
    """Number of documents."""
    first: int | None
    """Position of the first one, None for none."""

    @classmethod
    def of(cls, positions: Iterable[int]) -> Found:
        """Return the number of positions, and the first."""
        all_of_them = list(positions)
        return cls(len(all_of_them), all_of_them[0] if all_of_them else None)


@dataclass(frozen=True)
class Oddity:
    """A document that differs much from the others."""

    document: int
    """Position in the data, from 0."""
    caption: str
    """Its caption, '' without one."""
    reason: str
    """Such as '900 characters, median 40'."""


def factors(numbers: Sequence[float] | np.ndarray, least: float = 1.0) -> np.ndarray:
    """Return how many times each number is the median, or the median is the number: (numbers,) float64, at least 1.

    Args:
        numbers: not negative.
        least: smaller numbers count as this one.
    """
    values = np.maximum(np.asarray(numbers, dtype=np.float64), least)
    middle = float(np.median(values))
    times: np.ndarray = np.maximum(values / middle, middle / values)
    return times


def oddest(scores: np.ndarray) -> list[int]:
    """Return the positions of the at most MOST_ODD highest scores of ODD or more, highest first."""
    order = np.argsort(-scores, kind="stable")[:MOST_ODD]
    return [int(position) for position in order if scores[position] >= ODD]
