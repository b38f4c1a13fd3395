"""Documents that are done leave the memory soon."""

from __future__ import annotations

import gc


def freeze_modules() -> None:
    """Take what is loaded now out of Python's collector. For a process that is a room and nothing else.

    A DocArray document refers to itself, so that only the collector frees it, with the 10 MB that somebody put into
    it. Old objects are looked through when a quarter as many have come: beside half a million of Jina's and torch's
    that is seldom, beside none of them it is often, and quick.

    Nothing is collected first: a room may be forked from any process, and freeing what gRPC had left there was seen
    never to end.
    """
    gc.freeze()
