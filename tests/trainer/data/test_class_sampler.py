"""The images of each batch: by label, and random."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.class_sampler import (
    class_batch_count,
    class_batches,
    random_batch_count,
    random_batches,
)

LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(12), [4, 4, 4, 4, 4, 4, 2, 3, 5, 7, 8, 1]))


def one_pass(batch_size: int, items: int, seed: int = 0, labels: np.ndarray = LABELS) -> list[list[int]]:
    return [batch.tolist() for batch in class_batches(labels, batch_size, items, np.random.default_rng(seed))]


@pytest.mark.parametrize(("batch_size", "items"), [(16, 4), (8, 4), (8, 2), (10, 3), (4, 4), (1000, 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_epoch_has_every_image_beside_another_of_its_label(batch_size: int, items: int, seed: int) -> None:
    batches = one_pass(batch_size, items, seed)
    assert len(batches) == class_batch_count(LABELS, batch_size, items)
    assert max(map(len, batches)) <= batch_size
    sizes = Counter(LABELS.tolist())
    for batch in batches:
        for label, count in Counter(LABELS[batch].tolist()).items():
            assert count >= min(2, sizes[label])
    missing = set(range(len(LABELS))) - {row for batch in batches for row in batch}
    assert len(missing) <= items  # a last batch of one group is left out


def test_labels_of_the_group_size_are_not_repeated() -> None:
    labels = np.repeat(np.arange(8), 4)
    batches = one_pass(16, 4, labels=labels)
    assert sorted(row for batch in batches for row in batch) == list(range(32))
    assert all(set(Counter(labels[batch].tolist()).values()) == {4} for batch in batches)


def test_batches_of_small_labels_are_full() -> None:
    assert [len(batch) for batch in one_pass(16, 4, labels=np.repeat(np.arange(16), 2))] == [16, 16]


def test_the_order_depends_on_the_seed_alone() -> None:
    assert one_pass(8, 4, seed=3) == one_pass(8, 4, seed=3)
    assert one_pass(8, 4, seed=3) != one_pass(8, 4, seed=4)


def test_a_batch_fits_two_labels() -> None:
    assert all(len(batch) == 4 for batch in one_pass(4, 4, labels=np.repeat(np.arange(4), 4)))
    with pytest.raises(InvalidInput, match="batch_size must be at least 4 .* Got 3"):
        one_pass(3, 4)


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (2, 8, [2])])
def test_random_batches_hold_each_image_once(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = list(random_batches(count, batch_size, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == sizes
    assert random_batch_count(count, batch_size) == len(sizes)
    rows = np.concatenate(batches).tolist()
    assert len(set(rows)) == len(rows)
