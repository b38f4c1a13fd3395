"""The stream of changes of the list of runs: one question to the trainer for all streams, and a bound on them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, cast

import pytest

from finetuner.exceptions import FlowUnreachable, ResourceExhausted
from finetuner.executors.gateway.flow.rooms import Rooms
from finetuner.executors.gateway.rest.logstream import MAX_STREAMS, OpenStreams
from finetuner.executors.gateway.rest.manage import live


class Asked:
    """Rooms whose trainer answers with each of the given states, then with the last one."""

    def __init__(self, *states: dict[str, Any] | Exception) -> None:
        self.states, self.calls = list(states), 0

    async def call(self, _: str) -> dict[str, Any]:
        self.calls += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


def state(version: str) -> dict[str, Any]:
    return {"version": version, "counts": {"STARTED": int(version)}}


def test_all_streams_share_one_question_and_see_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.02)
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.05)
    asked = Asked(state("1"), FlowUnreachable("the trainer is away"), state("1"), state("2"))
    streams = OpenStreams()

    async def read_two() -> list[list[str]]:
        changes = live.RunChanges(cast(Rooms, asked), streams)

        async def read() -> list[str]:
            return [event async for event in changes.stream(seconds=0.3)]

        return [*await asyncio.gather(read(), read())]

    for events in asyncio.run(read_two()):
        told = [event for event in events if event.startswith("data")]
        assert told == ['data: {"counts": {"STARTED": 1}}\n\n', 'data: {"counts": {"STARTED": 2}}\n\n']
        assert ": waiting\n\n" in events, "a proxy sees that the stream lives"
    assert asked.calls <= 17, "once an interval, not once for each stream"
    with ExitStack() as opened:
        for _ in range(MAX_STREAMS):
            opened.enter_context(streams.one())
        with pytest.raises(ResourceExhausted, match="At most 64"):
            streams.check()
