"""The sizes of vectors that a model has, and the cut."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from finetuner.contract.dimensions import checked_dimensions, refuse_dimensions, shortened
from finetuner.exceptions import InvalidInput

SHORT = SimpleNamespace(model_id="abc", dim=128, short_dims=(64, 1))
WHOLE = SimpleNamespace(model_id="clip-mini", dim=128, short_dims=())


@pytest.mark.parametrize(("given", "size"), [(None, 128), (128, 128), (64, 64), (64.0, 64), (np.int64(1), 1)])
def test_the_models_sizes_are_taken(given: Any, size: int) -> None:
    found = checked_dimensions(given, SHORT)
    assert (found, type(found)) == (size, int)


@pytest.mark.parametrize("given", [100, 0, -64, 64.5, True, "64", [64], float("nan"), np.array([64, 1])], ids=str)
def test_other_sizes_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="dimensions must be one of 128, 64, 1, the sizes .* of abc. Got .* Choose"):
        checked_dimensions(given, SHORT)
    with pytest.raises(
        InvalidInput, match="must be 128, the size of the embeddings of clip-mini. Got .* Leave it out. .*matryoshka_d"
    ):
        checked_dimensions(given, WHOLE)


@pytest.mark.parametrize("endpoint", ["/index", "/search"])
def test_the_index_holds_whole_vectors(endpoint: str) -> None:
    refuse_dimensions(endpoint, {"dimensions": None, "limit": 5})
    refuse_dimensions("/encode", {"dimensions": 64})
    with pytest.raises(InvalidInput, match=f"for /encode alone. Got 64 for {endpoint}. Leave it out: the indexer's"):
        refuse_dimensions(endpoint, {"dimensions": 64})


def test_the_cut_equals_a_loop() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = shortened(vectors, 2)
    for row, cut in zip(vectors.tolist(), found.tolist(), strict=True):
        length = math.sqrt(row[0] ** 2 + row[1] ** 2)
        assert cut == pytest.approx([row[0] / length, row[1] / length], rel=1e-6)
    assert (found.dtype, found.shape) == (np.float32, (3, 2))
    np.testing.assert_array_equal(shortened(vectors[0], 2), found[0])
    assert shortened(vectors, 5) is vectors
    assert not shortened(np.array([0, 0, 1], np.float32), 2).any()
