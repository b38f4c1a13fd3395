"""Changes of the list of runs as server-sent events. One task asks the trainer for all open streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from finetuner.contract import wire
from finetuner.exceptions import FinetunerError

from ...flow.rooms import Rooms
from ..logstream import KEEP_ALIVE, OpenStreams

INTERVAL = 1.0  # seconds between two questions to the trainer, however many streams are open
LONGEST = 1800.0  # seconds of a stream; the page opens another, with a token that is checked again


class RunChanges:
    """The state of the list of runs, kept fresh while a stream is open.

    Args:
        rooms: the Flow's rooms.
        streams: bounds the open streams, those of logs included.
    """

    def __init__(self, rooms: Rooms, streams: OpenStreams) -> None:
        self._rooms, self._streams = rooms, streams
        self._state: dict[str, Any] = {}
        self._changed = asyncio.Condition()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None

    async def stream(self, seconds: float = LONGEST) -> AsyncIterator[str]:
        """Yield an event with the runs by status now, and after each change; a comment every KEEP_ALIVE seconds."""
        with self._streams.one():
            self._readers += 1
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._watch())
            try:
                seen, end = "", asyncio.get_running_loop().time() + seconds
                while asyncio.get_running_loop().time() < end:
                    try:
                        async with asyncio.timeout(min(KEEP_ALIVE, seconds)):
                            async with self._changed:
                                while self._state.get("version", "") == seen:
                                    await self._changed.wait()
                                seen = self._state["version"]
                                event = json.dumps({"counts": self._state["counts"]})
                    except TimeoutError:
                        yield ": waiting\n\n"
                        continue
                    yield f"data: {event}\n\n"
            finally:
                self._readers -= 1

    async def _watch(self) -> None:
        while self._readers:
            try:
                found = await self._rooms.call(wire.RUNS_CHANGES)
            except FinetunerError:  # the trainer starts anew: the streams wait for it
                found = self._state
            if found != self._state:
                async with self._changed:
                    self._state = found
                    self._changed.notify_all()
            await asyncio.sleep(INTERVAL)
        self._state = {}
