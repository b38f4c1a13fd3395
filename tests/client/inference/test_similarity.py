"""Cosine similarity against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

import finetuner
from finetuner.exceptions import InvalidInput


def test_it_equals_a_naive_loop() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(5, 8)).astype(np.float32), generator.normal(size=(3, 8)).astype(np.float32)
    found = finetuner.cos_sim(a, b)
    assert found.shape == (5, 3)
    for row, left in enumerate(a.tolist()):
        for column, right in enumerate(b.tolist()):
            dot = sum(x * y for x, y in zip(left, right, strict=True))
            lengths = math.sqrt(sum(x * x for x in left)) * math.sqrt(sum(y * y for y in right))
            assert found[row, column] == pytest.approx(dot / lengths, abs=1e-6)


def test_single_vectors_and_zero_vectors() -> None:
    assert finetuner.cos_sim([1, 0], [2, 0]) == pytest.approx(np.array([[1.0]]))
    assert finetuner.cos_sim([0, 0], [2, 0]) == pytest.approx(np.array([[0.0]]))


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2, 3]), (np.zeros((2, 2, 2)), np.zeros((2, 2)))])
def test_other_shapes_are_refused(a: object, b: object) -> None:
    with pytest.raises(InvalidInput, match=r"must be \(rows, dim\)"):
        finetuner.cos_sim(a, b)
