"""Joins several processes that train one model, and shares their encoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather

from finetuner.exceptions import InvalidInput
from finetuner.models.model_kinds import Model

from .task import share

TIMEOUT = timedelta(hours=12)
"""A process waits this long for the others, for example while the first one publishes."""


def join_processes(count: int, device: str) -> PartialState:
    """Return the state of this process among those that the supervisor has started.

    Args:
        count: of processes.
        device: 'cuda', where each process uses a GPU of its own, or 'cpu'.

    Raises:
        InvalidInput: there are more processes than GPUs.
    """
    if device == "cuda" and count > torch.cuda.device_count():
        raise InvalidInput(
            f"num_processes must be at most the number of GPUs, {torch.cuda.device_count()}. Got {count}. Lower it."
        )
    state = PartialState(cpu=device == "cpu", timeout=TIMEOUT)
    assert state.num_processes == count
    return state


def share_encoding(model: Model) -> None:
    """Let each process embed its share of the model's inputs; all processes get all embeddings.

    Every process must make the same calls in the same order.
    """
    for name in ("encode_texts", "encode_pixels"):
        setattr(model, name, _shared(getattr(model, name), model))


def _shared(encode: Callable[..., np.ndarray], model: Model) -> Callable[..., np.ndarray]:
    state = PartialState()

    def shared(items: Sequence[Any], batch_size: int = 32) -> np.ndarray:
        if not len(items):
            return encode(items, batch_size)
        rows = [share(np.arange(len(items)), process, state.num_processes) for process in range(state.num_processes)]
        own = encode([items[row] for row in rows[state.process_index].tolist()], batch_size)
        found = gather(torch.from_numpy(own).to(model.device)).cpu().numpy()  # (processes * rows, dim)
        embeddings = np.empty((len(items), own.shape[1]), dtype=own.dtype)
        embeddings[np.concatenate(rows)] = found
        return embeddings

    return shared
