"""Finds the largest batch that fits into memory, by trying."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Protocol

import psutil
import torch
from torch import nn

from finetuner.exceptions import FinetunerError

from .checkpoint import random_state, restore_random_state

SHARE = 0.8  # of all memory
PROBES = (4, 8)  # pairs

log = logging.getLogger("finetuner")


class Memory(Protocol):
    """Limit and peak use of the memory of a step."""

    def start(self) -> None:
        """Release unused memory and reset the peak."""

    def peak(self) -> int:
        """Return the peak in bytes since `start`, weights and the rest of this process included."""

    def total(self) -> int:
        """Return the bytes that this process could use at most."""


class CudaMemory:
    """Memory of one GPU.

    Args:
        device: of type 'cuda'.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        """Release cached blocks and reset the peak."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        """Return the peak bytes of all tensors."""
        return torch.cuda.max_memory_allocated(self._device)

    def total(self) -> int:
        """Return the free bytes plus those that this process holds."""
        return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device)


class CpuMemory:
    """Resident memory of this process, from Linux's /proc."""

    def start(self) -> None:
        """Reset the peak. On kernels that cannot reset it, the reported peak is too high and the batch smaller."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the highest resident set size."""
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else psutil.Process().memory_info().rss

    def total(self) -> int:
        """Return the available bytes of the machine plus those that this process holds."""
        return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def memory_of(device: torch.device) -> Memory:
    """Return the memory that steps on a device use."""
    return CudaMemory(device) if device.type == "cuda" else CpuMemory()


def probe_micro_batch(
    try_step: Callable[[int], None], network: nn.Module, crops: torch.Generator, device: torch.device, whole: int
) -> int:
    """Return the number of pairs that fit into memory at once. Weights and random state stay as they were.

    Args:
        try_step: runs a whole step of the given number of pairs.
        network: changed by a step, for example in the statistics of its batch norms.
        crops: generator of the random crops.
        device: of the network.
        whole: pairs in the whole batch, at least 2; the answer is at most this.

    Raises:
        FinetunerError: not even two pairs fit.
    """
    weights, random, cropping = deepcopy(network.state_dict()), random_state(), crops.get_state()
    fits = find_batch_size(try_step, memory_of(device), whole, smallest=2)
    network.load_state_dict(weights)
    restore_random_state(random)
    crops.set_state(cropping)
    return fits


def find_batch_size(
    try_step: Callable[[int], None], memory: Memory, limit: int, *, smallest: int = 1, share: float = SHARE
) -> int:
    """Return the largest batch size whose step stays below a share of memory.

    Measures two small steps, extrapolates the memory of larger ones by a line, and tries the size found. If that
    exceeds the share, tries the next smaller one. Sizes are `limit` itself, powers of two, and the sums of two
    neighbouring powers (..., 32, 48, 64, 96, ...). Processes that share a batch should use their smallest answer.

    Args:
        try_step: runs a whole step of that many pairs. The caller restores weights and random state afterwards.
        memory: of the device.
        limit: largest size to try, at least `smallest`.
        smallest: smallest size to try, from 1.
        share: of all memory, in (0, 1].

    Raises:
        FinetunerError: not even `smallest` fits.
    """
    memory.start()
    allowed = int(memory.total() * share)
    first, second = (min(max(size, smallest), limit) for size in PROBES)
    _peak(try_step, memory, first)  # allocations that happen once, such as the optimizer's state
    measured: dict[int, int] = {}
    for size in dict.fromkeys((first, second)):
        peak = _peak(try_step, memory, size)
        if peak is None or peak > allowed:
            smaller = [entry for entry in sizes_to(size, smallest) if entry < size]
            return _first_that_fits(try_step, memory, smaller, allowed)
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
    return _first_that_fits(try_step, memory, sizes or [second], allowed, known=second)


def sizes_to(limit: int, smallest: int = 1) -> list[int]:
    """Return `limit`, then all 2^n and 3 * 2^n below it, in falling order down to `smallest`."""
    sizes = {limit, smallest} | {factor << power for factor in (1, 3) for power in range(limit.bit_length())}
    return sorted((size for size in sizes if smallest <= size <= limit), reverse=True)


def _first_that_fits(
    try_step: Callable[[int], None], memory: Memory, sizes: list[int], allowed: int, known: int | None = None
) -> int:
    """Return the first of falling sizes that fits. `known` was measured before and fits."""
    for size in sizes:
        if size == known:
            return size
        peak = _peak(try_step, memory, size)
        if peak is not None and peak <= allowed:
            log.info("Batch size: %d pairs take %.0f MB of %.0f MB allowed", size, _mb(peak), _mb(allowed))
            return size
        took = "more than available" if peak is None else f"{_mb(peak):.0f} MB"
        log.info("Batch size: %d pairs take %s, %.0f MB allowed", size, took, _mb(allowed))
    raise FinetunerError(
        f"the smallest batch must fit into {_mb(allowed):.0f} MB of memory. It does not. Free memory, choose a smaller "
        f"model, or turn on gradient_checkpointing."
    )


def _peak(try_step: Callable[[int], None], memory: Memory, size: int) -> int | None:
    """Return the peak bytes of a step, None if it ran out of memory."""
    memory.start()
    try:
        try_step(size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return memory.peak()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a GPU or the CPU ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in message for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _mb(count: float) -> float:
    return count / 1e6
