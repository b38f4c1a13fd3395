"""Cosine similarity of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np


def cos_sim(a: Any, b: Any) -> np.ndarray:
    """Return the cosine similarity of each row of `a` with each of `b`.

    Args:
        a: (rows, dim) or (dim,), any array-like.
        b: (others, dim) or (dim,), any array-like.

    Returns:
        (rows, others) float32 in [-1, 1]; 0 for a vector of zeros.

    Raises:
        InvalidInput: the shapes are others, or the two dims differ.
    """
    import numpy as np

    left, right = np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32))
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise InvalidInput(f"a and b must be (rows, dim) with one dim. Got {left.shape} and {right.shape}.")
    lengths = [np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30) for vectors in (left, right)]
    similarity: np.ndarray = (left / lengths[0]) @ (right / lengths[1]).T
    return similarity
