"""Work for callers: several requests of a stream at the same time, none past the end of its call, few bytes at once.

Jina's own stream waits for a free place by turning its event loop, for ever once its caller has gone, and keeps the
requests of such a caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar

SMALL, MIDDLE = 2**12, 2**16  # bytes that are read at once, and bytes that wait for no other message
_reader = asyncio.Lock()  # one: Python's threads share a processor, and the callers with short requests need it

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


async def aside(size: int, work: Callable[[], Answered]) -> Answered:
    """Return the result of `work`, which reads or writes `size` bytes.

    More than SMALL bytes take a thread, so that other callers are answered meanwhile; more than MIDDLE its only one.
    """
    if size <= SMALL:
        return work()
    async with _reader if size > MIDDLE else nullcontext():
        return await asyncio.to_thread(work)


async def answer_each(
    requests: AsyncIterator[Asked], answer: Callable[[Asked], Awaitable[Answered]], most: int, *, in_order: bool = False
) -> AsyncIterator[Answered]:
    """Yield the answers to a stream of requests. The first error ends the stream.

    At its end, however it comes, requests without an answer are canceled.

    Args:
        requests: is read as answers are taken.
        answer: answers one request.
        most: requests that are read and not answered yet.
        in_order: whether answers come in the order of their requests, else as they are ready.
    """
    reading: asyncio.Task[list[Asked]] | None = None
    running: list[asyncio.Task[Answered]] = []
    ended = False
    try:
        while not ended or running:
            if not running and reading is None:  # as at the start of each call: nothing else is to be waited for
                found = await _next(requests)
                ended = not found
                running += [asyncio.create_task(_answered(answer, request)) for request in found]
                continue
            if ended and len(running) == 1:  # as at the end of each call of one request
                yield await running.pop()
                return
            if reading is None and not ended and len(running) < most:
                reading = asyncio.create_task(_next(requests))
            waited = running[:1] if in_order else running
            await asyncio.wait([*waited, *([reading] if reading else [])], return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                found, reading = reading.result(), None
                ended = not found
                running += [asyncio.create_task(_answered(answer, request)) for request in found]
            while done := next((task for task in (running[:1] if in_order else running) if task.done()), None):
                running.remove(done)
                yield done.result()
    finally:
        left = [*running, *([reading] if reading else [])]
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)


async def _next(requests: AsyncIterator[Asked]) -> list[Asked]:
    """Return the next request, in a list that is empty at the end."""
    try:
        return [await anext(requests)]
    except StopAsyncIteration:
        return []


async def _answered(answer: Callable[[Asked], Awaitable[Answered]], request: Asked) -> Answered:
    return await answer(request)


class Budget:
    """Bytes that may be held at the same time. Waiting callers take turns.

    Args:
        most: bytes in all. One holder of more waits until it is alone.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them for the block. 0 waits for nobody."""
        if not size:
            yield
            return
        size = min(size, self._most)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._left += size
            else:
                turn.cancel()
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif size <= self._left:
                self._waiting.popleft()
                self._left -= size
                turn.set_result(None)
            else:
                return
