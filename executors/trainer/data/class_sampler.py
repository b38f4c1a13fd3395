"""Draws the images of each batch: several of each label, or any."""

from __future__ import annotations

import numpy as np

from finetuner.exceptions import InvalidInput


def class_batches(
    labels: np.ndarray, batch_size: int, items_per_class: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Return one epoch: each image at least once, beside others of its label.

    The images of a label are shuffled and cut into groups. A short group is filled with other images of the label,
    if any. A batch consists of several groups. A last batch of one group has no negatives and is left out, so the
    number of batches is `class_batch_count` for every order.

    Args:
        labels: (images,) int64.
        batch_size: most images in a batch, at least 4: two labels with two images.
        items_per_class: images in a group, at least 2. Smaller if no label has as many, or if two groups would not
            fit into a batch.
        generator: draws the order.

    Returns:
        (batch,) int64 arrays of positions in `labels`.
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
    """Return the number of batches of `class_batches`."""
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
    """Return one epoch: each image once. A last batch of one image has no negatives and is left out.

    Args:
        count: of images.
        batch_size: most images in a batch.
        generator: draws the order; None keeps it.

    Returns:
        (batch,) int64 arrays of positions below `count`.
    """
    order = np.arange(count) if generator is None else generator.permutation(count)
    return [order[start : start + batch_size] for start in range(0, count - 1, batch_size)]


def random_batch_count(count: int, batch_size: int) -> int:
    """Return the number of batches of `random_batches`."""
    return len(range(0, count - 1, batch_size))
