"""Turns of callers in the gateway's event loop: one short piece of work of each caller of many, each time round.

Without turns, a hundred requests that arrive at the same moment are checked, parsed and written in one go, and so are
the answers of one message: another caller's request would wait for all of them before the loop looks at it. Without a
caller of few requests beside another one, work is done at once: requests that come together share messages better.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

LATELY = 5.0  # seconds
FEW = 3  # texts: fewer cost a flood a third of its requests a second, and more make a lone caller wait

Work = Callable[[], None]


class Turns:
    """The pieces of work that wait, by caller."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Work]] = {}
        self._begun = False  # whether work has been done since the loop looked for more
        # when each caller last asked, the latest last: all of them, and those of few texts
        self._asked, self._few = OrderedDict[Hashable, float](), OrderedDict[Hashable, float]()

    async def take(self, caller: Hashable) -> None:
        """Wait for a turn of a caller's."""
        if not self.mixed or caller in self._few:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def begin() -> None:
            if not turn.done():  # else its caller has left
                turn.set_result(None)

        self.call(caller, begin)
        if not turn.done():
            await turn

    def call(self, caller: Hashable, work: Work) -> None:
        """Do a short piece of work in a turn of a caller's; at once for a caller of few. It must not raise."""
        if self._begun and self.mixed and caller not in self._few:
            self._waiting.setdefault(caller, deque()).append(work)
            return
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._next)
        work()

    def _next(self) -> None:
        if not self._waiting:
            self._begun = False
            return
        asyncio.get_running_loop().call_soon(self._next)
        pieces = []
        for caller, line in list(self._waiting.items()):
            pieces.append(line.popleft())
            if not line:
                del self._waiting[caller]
        for work in pieces:
            work()

    def asked(self, caller: Hashable, texts: int) -> None:
        """Take note that a caller asks the rooms.

        Args:
            caller: who asks.
            texts: those that it waits for, with the new ones; FEW or less make it a caller of few.
        """
        for known in (self._asked, *([self._few] if texts <= FEW else [])):
            known[caller] = time.monotonic()
            known.move_to_end(caller)
        if texts > FEW:
            self._few.pop(caller, None)

    @property
    def mixed(self) -> bool:
        """Whether a caller of few texts has asked the rooms LATELY, and another caller."""
        oldest = time.monotonic() - LATELY
        for known in (self._asked, self._few):
            while known and next(iter(known.values())) < oldest:
                known.popitem(last=False)
        return bool(self._few) and len(self._asked) > 1
