"""A run's log as it grows, as server-sent events: one `data:` line a log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from executors.gateway.flow.rooms import Rooms
from finetuner.contract import wire
from finetuner.exceptions import FinetunerError, FinetunerServerError, ResourceExhausted

INTERVAL = 0.5  # seconds between two looks at a log that has not grown
KEEP_ALIVE = 15.0  # seconds without an event, after which a comment tells proxies that the stream lives
MAX_STREAMS = 64


class OpenStreams:
    """Counts streams, each of which asks the trainer twice a second."""

    def __init__(self) -> None:
        self._count = 0

    def check(self) -> None:
        """Refuse one more than MAX_STREAMS.

        Raises:
            ResourceExhausted
        """
        if self._count >= MAX_STREAMS:
            raise ResourceExhausted(f"logs must be followed by at most {MAX_STREAMS} at once. Try again later.")

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while the block runs."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


async def read_log(rooms: Rooms, run: Mapping[str, str], page: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield a log as far as it is written.

    Args:
        rooms: of the Flow.
        run: parameters that name it.
        page: its first one.
    """
    offset = 0
    while page["offset"] > offset:
        yield page["text"]
        offset = page["offset"]
        page = await rooms.call(wire.RUNS_LOGS, **run, offset=offset)


async def follow_log(rooms: Rooms, run: Mapping[str, str], offset: int, streams: OpenStreams) -> AsyncIterator[str]:
    """Yield events until the run ends. Each `id:` is where to go on after a stream that broke.

    A trainer that restarts is waited for; a run that is deleted ends the stream.

    Args:
        rooms: of the Flow.
        run: parameters that name it.
        offset: bytes of the log that are passed over.
        streams: counts this one.
    """
    with streams.one():
        spoken = time.monotonic()
        while True:
            try:
                page = await rooms.call(wire.RUNS_LOGS, **run, offset=offset)
            except FinetunerServerError:
                page = {"offset": offset, "status": ""}
            except FinetunerError:
                return
            if page["offset"] > offset:
                offset, spoken = page["offset"], time.monotonic()
                yield _events(page["text"], offset)
                continue
            if page["status"] in wire.ENDED:
                return
            if time.monotonic() > spoken + KEEP_ALIVE:
                spoken = time.monotonic()
                yield ": waiting\n\n"
            await asyncio.sleep(INTERVAL)


def _events(text: str, offset: int) -> str:
    # splitlines, as the client does: a bare \r would end a line of the event, too
    lines = [f"data: {line}" for line in text.splitlines()] or ["data: "]
    lines[-1] += f"\nid: {offset}"
    return "".join(f"{line}\n\n" for line in lines)
