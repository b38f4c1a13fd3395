"""Weighted reciprocal rank fusion (Cormack et al. 2009): score = sum of weight / (CONSTANT + rank), rank from 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CONSTANT = 60


def fuse(lists: Sequence[tuple[float, Sequence[str]]]) -> dict[str, float]:
    """Return the fused score of each id in a list, best first; equal scores are in the order of the ids.

    Args:
        lists: weight at least 0, and ids best first, each once. An id adds nothing for a list that does not have it.
    """
    scores: dict[str, float] = {}
    for weight, ids in lists:
        for rank, document_id in enumerate(ids, 1):
            scores[document_id] = scores.get(document_id, 0.0) + weight / (CONSTANT + rank)
    return ordered(scores)


def ordered(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores from the highest; equal ones in the order of the ids."""
    return dict(sorted(scores.items(), key=lambda entry: (-entry[1], entry[0])))
