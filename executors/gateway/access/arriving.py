"""Bounds the bytes of all bodies that are held at the same time, however many callers send them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from finetuner.contract.wire import MAX_MESSAGE_BYTES

from .access import RateLimited

SMALL = 2**18  # bytes of a body that waits for no other
MOST = 2 * MAX_MESSAGE_BYTES
SECONDS = 30.0


class Arriving:
    """Bytes of bodies. One caller may hold half of them, so others are served beside it.

    Args:
        most: bytes of all bodies of more than SMALL.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, caller: str, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them for the block.

        Args:
            caller: name of its token.
            size: bytes that a body may have, from its first to its last; SMALL and less wait for nobody.

        Raises:
            RateLimited: they were not free within SECONDS.
        """
        if size <= SMALL:
            yield
            return
        size = min(size, self._most // 2)
        try:
            async with asyncio.timeout(SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._fits(caller, size))
                self._held[caller] += size
        except TimeoutError:
            raise RateLimited(
                f"the bodies that arrive at the same time may have {self._most} bytes, and half of it for one token. "
                "Got more. Send fewer large requests at the same time, and this one again.",
                1.0,
            ) from None
        try:
            yield
        finally:
            self._held[caller] -= size
            self._held += Counter()  # without callers that hold nothing
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, caller: str, size: int) -> bool:
        return self._held.total() + size <= self._most and self._held[caller] + size <= self._most // 2
