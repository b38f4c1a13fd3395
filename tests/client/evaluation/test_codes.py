"""Searches of int8 and binary codes against loops."""

from __future__ import annotations

import numpy as np
import pytest

from finetuner.evaluation.codes import RESCORED, nearest_binary, nearest_int8, score_codes
from finetuner.evaluation.pairs import EncodedPairs, score
from finetuner.metrics import nearest


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    found = np.random.default_rng(0).normal(size=(2, 40, 8)) + 0.3
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    return found[0, :9].astype(np.float32), found[1].astype(np.float32)


def test_int8_is_a_search_of_rounded_numbers(sides: tuple[np.ndarray, np.ndarray]) -> None:
    queries, index = sides
    largest = max(abs(float(value)) for value in index.ravel())
    for query, rows in zip(queries, nearest_int8(queries, index, 5).tolist(), strict=True):
        cosines = [
            sum(float(a) * round(float(b) / largest * 127) for a, b in zip(query, row, strict=True)) for row in index
        ]
        assert rows == sorted(range(40), key=lambda row: -cosines[row])[:5]


def test_binary_takes_the_nearest_signs_and_ranks_them_by_the_full_vectors(
    sides: tuple[np.ndarray, np.ndarray],
) -> None:
    queries, index = sides
    found = nearest_binary(queries, index, 3)
    for query, rows in zip(queries, found.tolist(), strict=True):
        apart = [sum((a > 0) != (b > 0) for a, b in zip(query, row, strict=True)) for row in index]
        chosen = sorted(range(40), key=lambda row: (apart[row], row))[: 3 * RESCORED]
        assert rows == sorted(chosen, key=lambda row: -float(index[row] @ query))[:3]
    assert not np.array_equal(found, nearest(queries, index, 3)), "the signs lose some"
    assert nearest_binary(queries, index, 40).tolist() == nearest(queries, index, 40).tolist()
    assert nearest_binary(queries[:0], index, 3).shape == (0, 3)


def test_rows_have_the_names_of_their_codes(sides: tuple[np.ndarray, np.ndarray]) -> None:
    keys = [str(row) for row in range(40)]
    encoded = EncodedPairs(sides[1], keys, [""] * 40, sides[1], keys)
    found = score_codes(encoded, ("int8", "binary"))
    assert len(found) == 12
    assert found["text_to_image_recall_at_1/binary"] == score(encoded)["text_to_image_recall_at_1"] == 1
    assert score_codes(encoded, ()) == {}
