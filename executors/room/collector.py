"""Gives back the memory of answered documents soon: Python's garbage collector, and the allocator of the C library."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import psutil

ARENA_MAX, MMAP_THRESHOLD = -8, -3  # M_ARENA_MAX and M_MMAP_THRESHOLD of glibc's malloc.h
ARENAS, MAPPED_BYTES = 2, 2**20


def freeze_modules() -> None:
    """Exclude all objects that exist now from garbage collection. Only for a process that serves one room.

    A DocArray document refers to itself, so only the collector frees it, with its content of up to 10 MB. A full
    collection waits until the number of new objects reaches a quarter of the old ones. Beside half a million objects
    of Jina and torch that happens seldom. Without them it happens often and takes little time.

    Nothing is collected first. A room may be forked from any process, and freeing gRPC's objects of that process was
    seen to hang.
    """
    gc.freeze()


def bound_arenas() -> None:
    """Keep freed memory in two heaps at most, and large blocks in none. Only for a process that computes nothing.

    Each thread of gRPC would have its own heap, and a block of up to 32 MB would stay in it. After four floods a
    gateway held 500 MB, with two heaps 370. Other C libraries than glibc have no such settings.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(ARENA_MAX, ARENAS)
        mallopt(MMAP_THRESHOLD, MAPPED_BYTES)


TRIM_SECONDS, TRIMS = 1.0, 30
GROWN_BYTES = 32 * 2**20


def keep_trimmed() -> None:
    """Give the pages of freed memory back to the system, for 30 s after this process has grown, in a thread of its own.

    Blocks that were freed between others stay in the heaps: after floods of headers a gateway kept 190 MB. A look takes
    1 ms, up to 50 ms where there is much to give back. Other C libraries than glibc have no such call.
    """
    with suppress(AttributeError, OSError):
        Thread(target=_trim, args=(ctypes.CDLL(None).malloc_trim,), name="trim", daemon=True).start()


def _trim(trim: Callable[[int], int]) -> None:
    process = psutil.Process()
    rest, left = process.memory_info().rss, 0
    while True:
        time.sleep(TRIM_SECONDS)
        if process.memory_info().rss > rest + GROWN_BYTES:
            left = TRIMS
        if left:
            trim(0)
            rest, left = process.memory_info().rss, left - 1
