"""The largest batch that fits into memory, found by trying."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil
import torch

from finetuner.exceptions import FinetunerError

SHARE = 0.8
PROBES = (4, 8)

log = logging.getLogger("finetuner")


class Memory(Protocol):
    """What a step may take, and what it took."""

    def start(self) -> None:
        """Free what is left over and forget the peak so far."""

    def peak(self) -> int:
        """Return the most bytes in use since `start`, weights and everything else of this process included."""

    def total(self) -> int:
        """Return the bytes that this process could have at most."""


class CudaMemory:
    """Memory of one GPU.

    Args:
        device: of type 'cuda'.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Give cached blocks back and forget the peak."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        """Return the most bytes that tensors took."""
        return torch.cuda.max_memory_allocated(self._device)

    def total(self) -> int:
        """Return what is free, and what this process holds."""
        return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device)


class CpuMemory:
    """Resident memory of this process, from Linux's /proc."""

    def start(self) -> None:
        """Forget the peak; where the kernel does not let us, it stays too high, and the batch is smaller."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the highest resident set size."""
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else psutil.Process().memory_info().rss

    def total(self) -> int:
        """Return what is available on the machine, and what this process holds."""
        return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def memory_of(device: torch.device) -> Memory:
    """Return the memory in which steps on this device compute."""
    return CudaMemory(device) if device.type == "cuda" else CpuMemory()


def find_batch_size(
    try_step: Callable[[int], None], memory: Memory, limit: int, *, smallest: int = 1, share: float = SHARE
) -> int:
    """Return the largest batch size whose step stays below a share of memory.

    Two small steps are measured, the memory of larger ones is extrapolated by a line, and the size found is tried;
    where that takes too much, the next smaller one. Sizes are `limit` itself, powers of two and their sums of two
    neighbours (..., 32, 48, 64, 96, ...). Processes that share a batch should take the smallest of their answers.

    Args:
        try_step: runs a whole step of that many pairs, optimizer included; the caller puts weights, optimizer and
            random state back afterwards.
        memory: of the device.
        limit: largest size to try: of the data, or what the recipe asks for; at least `smallest`.
        smallest: size to try first, from 1.
        share: of all memory, in (0, 1].

    Raises:
        FinetunerError: not even `smallest` fits.
    """
    memory.start()
    allowed = int(memory.total() * share)
    first, second = (min(max(size, smallest), limit) for size in PROBES)
    _peak(try_step, memory, first)  # what is made once, such as the optimizer's state
    measured: dict[int, int] = {}
    for size in dict.fromkeys((first, second)):
        peak = _peak(try_step, memory, size)
        if peak is None or peak > allowed:
            smaller = [entry for entry in sizes_to(size, smallest) if entry < size]
            return _fallback(try_step, memory, smaller, allowed)
        measured[size] = peak
    slope = (measured[second] - measured[first]) / (second - first) if second > first else 0.0
    room = allowed - measured[second]
    reach = limit if slope * (limit - second) <= room else second + int(room / slope)
    log.info(
        "Batch size: %s; %.0f MB allowed, about %.2f MB a pair, so up to %d of %d pairs",
        ", ".join(f"{size} pairs take {_mb(peak):.0f} MB" for size, peak in measured.items()),
        _mb(allowed),
        _mb(slope),
        reach,
        limit,
    )
    sizes = [size for size in sizes_to(limit, smallest) if second <= size <= reach]
    return _fallback(try_step, memory, sizes or [second], allowed, known=second)


def sizes_to(limit: int, smallest: int = 1) -> list[int]:
    """Return `limit`, then all 2^n and 3 * 2^n below it, down to `smallest`."""
    sizes = {limit, smallest} | {factor << power for factor in (1, 3) for power in range(limit.bit_length())}
    return sorted((size for size in sizes if smallest <= size <= limit), reverse=True)


def _fallback(
    try_step: Callable[[int], None], memory: Memory, sizes: list[int], allowed: int, known: int | None = None
) -> int:
    """Return the first of falling sizes that fits; `known` does, as was measured."""
    for size in sizes:
        if size == known:
            return size
        peak = _peak(try_step, memory, size)
        if peak is not None and peak <= allowed:
            log.info("Batch size: %d pairs take %.0f MB of %.0f MB allowed", size, _mb(peak), _mb(allowed))
            return size
        took = "more than there is" if peak is None else f"{_mb(peak):.0f} MB"
        log.info("Batch size: %d pairs take %s, %.0f MB allowed", size, took, _mb(allowed))
    raise FinetunerError(
        f"the smallest batch must fit into {_mb(allowed):.0f} MB of memory. It does not. Free memory, take a smaller "
        f"model, or gradient checkpointing."
    )


def _peak(try_step: Callable[[int], None], memory: Memory, size: int) -> int | None:
    """Return the peak bytes of a step, None where memory did not suffice."""
    memory.start()
    try:
        try_step(size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return memory.peak()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory did not suffice, on a GPU or the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in message for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _mb(count: float) -> float:
    return count / 1e6
