"""Gives back the memory of answered documents soon: Python's garbage collector, and the allocator of the C library."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

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
