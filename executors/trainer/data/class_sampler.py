"""Which images stand in which batch: several of a label, or any."""

from __future__ import annotations

import numpy as np

from finetuner.exceptions import InvalidInput


def class_batches(
    labels: np.ndarray, batch_size: int, items_per_class: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Return one pass: each image at least once, with others of its label beside it.

    The images of a label are shuffled and cut into groups; a group that is short is filled up with others of the
    label, as far as there are any. A batch is some groups; a last one of a single group is left out, since it has
    no negatives, so that `class_batch_count` batches come whatever the order.

    Args:
        labels: (images,) int64.
        batch_size: images a batch, at most; at least 4, for two labels with two images.
        items_per_class: images in a group, at least 2; fewer where no label has as many, or where two groups
            would not fit into a batch.
        generator: order.

    Returns:
        (batch,) int64 each, positions in `labels`.
    """
    size = _group_size(labels, batch_size, items_per_class)
    groups = []
    for label in np.unique(labels):
        items = generator.permutation(np.flatnonzero(labels == label))
        for start in range(0, len(items), size):
            group = items[start : start + size]
            others = np.concatenate([items[:start], items[start + size :]])
            groups.append(np.concatenate([group, others[: size - len(group)]]))
    order = generator.permutation(len(groups))
    per_batch = batch_size // size
    return [
        np.concatenate([groups[position] for position in order[start : start + per_batch]])
        for start in range(0, len(order) - 1, per_batch)
    ]


def class_batch_count(labels: np.ndarray, batch_size: int, items_per_class: int) -> int:
    """Return how many batches `class_batches` makes."""
    size = _group_size(labels, batch_size, items_per_class)
    groups = sum(-(-int(count) // size) for count in np.unique(labels, return_counts=True)[1])
    return len(range(0, groups - 1, batch_size // size))


def _group_size(labels: np.ndarray, batch_size: int, items_per_class: int) -> int:
    if batch_size < 4:
        raise InvalidInput(
            f"batch_size must be at least 4 for the sampler 'class': two labels with two images. Got {batch_size}. "
            f"Raise it, or set sampler='random'."
        )
    return min(items_per_class, batch_size // 2, int(np.bincount(labels).max()))


def random_batches(count: int, batch_size: int, generator: np.random.Generator | None) -> list[np.ndarray]:
    """Return one pass: each image once; a rest of one is left out, since it has no negatives.

    Args:
        count: how many images there are.
        batch_size: images a batch, at most.
        generator: order; None is the given order.

    Returns:
        (batch,) int64 each, positions below `count`.
    """
    order = np.arange(count) if generator is None else generator.permutation(count)
    return [order[start : start + batch_size] for start in range(0, count - 1, batch_size)]


def random_batch_count(count: int, batch_size: int) -> int:
    """Return how many batches `random_batches` makes."""
    return len(range(0, count - 1, batch_size))
