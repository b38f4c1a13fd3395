"""Replays recorded forward passes on a GPU: a small batch costs its kernels, without Python's time to launch each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch

SIZES = (1, 2, 4, 8, 16, 32)  # rows of the recorded passes; a GPU is busy with a larger batch anyway
WARM_UPS = 3


class Pass(NamedTuple):
    """A recorded forward pass, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    given: torch.Tensor
    found: torch.Tensor


class Graphs:
    """The recorded passes of one tower.

    Args:
        forward: (rows, ...) -> (rows, dim), on the GPU, without a step that waits for it.
        stack: items -> (items, ...) on the GPU, what `forward` takes.
        canary: any item.
        most: largest batch of the lane.
        precision: factory of the context of a forward pass.

    Raises:
        RuntimeError: the network cannot be recorded.
    """

    def __init__(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        stack: Callable[[Sequence[Any]], torch.Tensor],
        canary: Any,
        most: int,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._forward, self._stack = forward, stack
        self._passes: dict[int, Pass] = {}
        pool = torch.cuda.graph_pool_handle()  # shared: one pass is replayed at a time
        with torch.inference_mode(), precision():
            keeps = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(False)  # a weight that one recording cached would be missing in the next
            try:
                for size in sorted(SIZES, reverse=True):  # the first one claims memory for all
                    if size < 2 * most:
                        self._passes[size] = self._recorded(stack([canary] * size), pool)
            finally:
                torch.set_autocast_cache_enabled(keeps)

    def _recorded(self, given: torch.Tensor, pool: Any) -> Pass:
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._vectors(given)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):  # other models go on meanwhile
            found = self._vectors(given)
        return Pass(graph, given, found)

    def _vectors(self, given: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self._forward(given).float(), dim=-1)

    def run(self, items: Sequence[Any]) -> np.ndarray | None:
        """Return embeddings, (items, dim) float32, L2-normalised, or None for more items than were recorded."""
        sizes = [size for size in self._passes if size >= len(items)]
        if not sizes:
            return None
        recorded = self._passes[min(sizes)]
        with torch.inference_mode():
            recorded.given[: len(items)].copy_(self._stack(items), non_blocking=True)
            recorded.graph.replay()
            vectors: np.ndarray = recorded.found[: len(items)].cpu().numpy()
        return vectors
