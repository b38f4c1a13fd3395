"""Makes Python's garbage collector free answered documents soon."""

from __future__ import annotations

import gc


def freeze_modules() -> None:
    """Exclude all objects that exist now from garbage collection. Only for a process that serves one room.

    A DocArray document refers to itself, so only the collector frees it, with its content of up to 10 MB. A full
    collection waits until the number of new objects reaches a quarter of the old ones. Beside half a million objects
    of Jina and torch that happens seldom. Without them it happens often and takes little time.

    Nothing is collected first. A room may be forked from any process, and freeing gRPC's objects of that process was
    seen to hang.
    """
    gc.freeze()
