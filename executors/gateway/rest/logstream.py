"""A run's log as server-sent events, one event for each line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from finetuner.contract import wire
from finetuner.exceptions import FinetunerError, FinetunerServerError, FlowUnreachable, ResourceExhausted

from ..flow.rooms import Rooms

INTERVAL = 0.5  # seconds between two requests for a log that has not grown
KEEP_ALIVE = 15.0  # seconds without an event, then a comment keeps proxies from closing the stream
MAX_STREAMS = 64


class OpenStreams:
    """Counter of open log streams. Each of them asks the trainer twice a second."""

    def __init__(self) -> None:
        self._count = 0

    def check(self) -> None:
        """Refuse a stream beyond MAX_STREAMS.

        Raises:
            ResourceExhausted
        """
        if self._count >= MAX_STREAMS:
            raise ResourceExhausted(
                f"At most {MAX_STREAMS} log streams may be open at once. Got one more. Close one, or try later."
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one stream while the block runs."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


async def read_log(rooms: Rooms, run: Mapping[str, str], page: Mapping[str, Any]) -> AsyncIterator[str]:
    """Yield the log written so far.

    Args:
        rooms: the Flow's rooms.
        run: parameters that name the run.
        page: first page of the log.
    """
    offset = 0
    while page["offset"] > offset:
        yield page["text"]
        offset = page["offset"]
        page = await rooms.call(wire.RUNS_LOGS, **run, offset=offset)


async def follow_log(rooms: Rooms, run: Mapping[str, str], offset: int, streams: OpenStreams) -> AsyncIterator[str]:
    """Yield events until the run ends. The `id:` of an event is the offset from which a broken stream resumes.

    The stream waits for a trainer that restarts. It ends if the run is deleted.

    Args:
        rooms: the Flow's rooms.
        run: parameters that name the run.
        offset: bytes of the log to skip.
        streams: counts this stream.
    """
    with streams.one():
        last_event = time.monotonic()
        while True:
            try:
                page = await rooms.call(wire.RUNS_LOGS, **run, offset=offset)
            except (FlowUnreachable, FinetunerServerError):
                page = {"offset": offset, "status": ""}
            except FinetunerError:
                return
            if page["offset"] > offset:
                offset, last_event = page["offset"], time.monotonic()
                yield _events(page["text"], offset)
                continue
            if page["status"] in wire.ENDED:
                return
            if time.monotonic() > last_event + KEEP_ALIVE:
                last_event = time.monotonic()
                yield ": waiting\n\n"
            await asyncio.sleep(INTERVAL)


def _events(text: str, offset: int) -> str:
    # splitlines, as in the client: a bare \r also ends a line of an event
    lines = [f"data: {line}" for line in text.splitlines()] or ["data: "]
    lines[-1] += f"\nid: {offset}"
    return "".join(f"{line}\n\n" for line in lines)
