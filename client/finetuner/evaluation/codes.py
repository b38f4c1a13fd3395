"""Scores of a search of codes: of int8 numbers, or of signs with the full vectors to rank what they find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics import nearest
from .pairs import RECALLS, EncodedPairs, image_to_text, score, text_to_image

INT8, BINARY = "int8", "binary"
LEVELS = 127
RESCORED = 4
"""A search of binary codes takes this many times the hits; the full vectors rank them."""


def score_codes(encoded: EncodedPairs, codes: Sequence[str]) -> dict[str, float]:
    """Return the recalls in both directions of searches of codes, under names such as '.../int8' and '.../binary'.

    Args:
        encoded: at least one text, and its images.
        codes: of 'int8' and 'binary'.
    """
    names = [name(k) for name in (text_to_image, image_to_text) for k in RECALLS]
    scores: dict[str, float] = {}
    for code in codes:
        found: Mapping[str, float] = score(encoded, find=SEARCHES[code])
        scores |= {f"{name}/{code}": found[name] for name in names}
    return scores


def nearest_int8(queries: Any, index: Any, limit: int) -> Any:
    """Return the nearest rows as `metrics.nearest` does, of an index of int8 numbers.

    Each number is rounded to one of 255 levels, up to the largest of the index. Queries stay as they are.

    Args:
        queries: (queries, dim) float32, L2-normalised.
        index: (rows, dim) float32, L2-normalised.
        limit: number of rows per query.
    """
    import numpy as np

    step = max(float(np.abs(index).max(initial=0)), 1e-30) / LEVELS
    return nearest(queries, (np.round(index / step) * step).astype(np.float32), limit)


def nearest_binary(queries: Any, index: Any, limit: int) -> Any:
    """Return the nearest rows as `metrics.nearest` does, among those with the most signs in common with the query.

    The signs choose `RESCORED` times as many rows, by Hamming distance and then by row number; the full vectors rank
    these.

    Args:
        queries: (queries, dim) float32, L2-normalised.
        index: (rows, dim) float32, L2-normalised.
        limit: number of rows per query.
    """
    import numpy as np

    of_queries, of_index = (np.where(side > 0, np.float32(1), np.float32(-1)) for side in (queries, index))
    near = np.sort(nearest(of_queries, of_index, RESCORED * limit), axis=1)
    found = [
        rows[np.argsort(-(index[rows] @ query), kind="stable")[:limit]]
        for query, rows in zip(queries, near, strict=True)
    ]
    return np.array(found, dtype=np.int64).reshape(len(queries), min(limit, len(index)))


SEARCHES = {INT8: nearest_int8, BINARY: nearest_binary}
