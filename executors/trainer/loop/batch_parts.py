"""The parts of a batch of pairs: a process's share, the pairs that are replayed, and each caption of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..data.training_data import Plan
from .task import Outputs, share


def own_share(planned: Plan, process: int, processes: int) -> Plan:
    """Return one process's share of a batch."""
    return Plan(share(planned.rows, process, processes), share(planned.choices, process, processes))


def both_parts(outputs: Outputs, keys: tuple[torch.Tensor, ...]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return outputs and keys of the training data's pairs, and those of the pairs that are replayed."""
    own = tuple(tuple(each[: len(each) - len(each) // 2] for each in side) for side in (outputs, keys))
    return own, (second_half(outputs[:2]), second_half(keys[:3]))  # type: ignore[return-value]


def second_half(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the rows of the pairs that are replayed."""
    return tuple(each[len(each) - len(each) // 2 :] for each in tensors)


def by_caption(text: torch.Tensor, *keys: torch.Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Yield the embeddings, (batch, dim), and the keys, (batch,), of the first caption of each image, the second, ...

    Args:
        text: (batch, dim) or (batch, captions, dim).
        keys: likewise, without dim or with it; None stays None.
    """
    if text.ndim == 2:
        yield text, *keys
        return
    for at in range(text.shape[1]):
        yield text[:, at], *(None if key is None else key[:, at] for key in keys)
