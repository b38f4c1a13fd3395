"""Variety among matches: maximal marginal relevance, and hiding near-duplicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def standardised(values: Floats) -> Floats:
    """Return values with mean 0 and deviation 1; zeros if all are equal."""
    deviation = values.std()
    return np.asarray((values - values.mean()) / deviation if deviation > 1e-12 else np.zeros_like(values))


def diverse(relevance: Floats, vectors: NDArray[np.float32], diversity: float, count: int) -> list[int]:
    """Return positions in the order of maximal marginal relevance (Carbonell and Goldstein 1998).

    Each step takes the position with the highest (1 - diversity) * relevance - diversity * (highest similarity with
    those taken). Both sides are standardised over all candidates: cosines of two images are far higher than those of a
    text with an image. The first is the most relevant one; of equal ones, the first.

    Args:
        relevance: (n,) float64.
        vectors: (n, dim) float32, L2-normalised.
        diversity: 0 to 1. 0 keeps the order of relevance.
        count: number of positions to return.
    """
    total = len(relevance)
    if not total:
        return []
    similar = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    others = ~np.eye(total, dtype=bool)
    pairs = similar[others] if total > 1 else similar.ravel()
    deviation = pairs.std()
    similar = (similar - pairs.mean()) / deviation if deviation > 1e-12 else np.zeros_like(similar)
    wanted = (1 - diversity) * standardised(relevance)
    left = np.ones(total, dtype=bool)
    highest = np.full(total, -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, total):
        gain = wanted - diversity * highest if chosen else relevance
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        chosen.append(best)
        left[best] = False
        highest = np.maximum(highest, similar[best])
    return chosen


def without_duplicates(vectors: NDArray[np.float32], threshold: float, count: int) -> dict[int, int]:
    """Return positions that are no near-duplicates, in order, and how many each of them hides.

    A candidate is hidden by the first match before it whose cosine similarity is at least the threshold. Only matches
    that are shown hide others, so there are no chains.

    Args:
        vectors: (n, dim) float32, L2-normalised, best first.
        threshold: 0 to 1.
        count: maximum number of positions to return.
    """
    left = np.ones(len(vectors), dtype=bool)
    shown: dict[int, int] = {}
    for position in range(len(vectors)):
        if not left[position]:
            continue
        if len(shown) == count:
            break
        alike = left & (vectors @ vectors[position] >= threshold)
        alike[: position + 1] = False
        left &= ~alike
        shown[position] = int(alike.sum())
    return shown
