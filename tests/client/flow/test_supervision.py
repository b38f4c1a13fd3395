"""Rooms that end are started again, with growing pauses, until the Flow is asked to stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from finetuner.flow import supervision
from finetuner.flow.supervision import PAUSES, RoomProcess, keep_up

SPAWNED: list[Any] = []


class Pod:
    """As much of Jina's pod as there is to it: a process that starts once."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        self.name = args.name
        context = multiprocessing.get_context("spawn")
        self.worker = context.Process(target=args.work, args=args.arguments, daemon=True)

    def start(self) -> None:
        self.worker.start()
        SPAWNED.append(self.worker)


def pod(name: str, work: Any, *arguments: Any) -> Pod:
    started = Pod(Namespace(name=name, work=work, arguments=arguments))
    started.start()
    return started


def flow_of(gateway: Pod, *replicas: Pod) -> Any:
    empty = {"uses_before_pod": None, "uses_after_pod": None, "head_pod": None}
    door = SimpleNamespace(**empty, gateway_pod=gateway, shards={})
    room = SimpleNamespace(**empty, gateway_pod=None, shards={0: SimpleNamespace(_pods=list(replicas))})
    return {"gateway": door, "room": room}.items()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    SPAWNED.clear()
    yield []
    for worker in SPAWNED:
        worker.kill()
        worker.join()


def run_until(flow: Any, lines: list[str], count: int) -> None:
    """Keep the Flow up until so many lines are told, then stop."""
    stop, ask = multiprocessing.Pipe(duplex=False)

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == count:
            ask.send(None)

    watcher = threading.Thread(target=keep_up, args=(flow, stop, tell))
    watcher.start()
    watcher.join(200)
    assert not watcher.is_alive()


def test_a_killed_room_is_started_again_and_the_others_are_left_alone(lines: list[str]) -> None:
    gateway, killed, other = (
        pod("gateway", time.sleep, 600),
        pod("room/0", time.sleep, 600),
        pod("room/1", time.sleep, 600),
    )
    stop, ask = multiprocessing.Pipe(duplex=False)
    watcher = threading.Thread(target=keep_up, args=(flow_of(gateway, killed, other), stop, lines.append))
    watcher.start()
    os.kill(killed.worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 200
    while len(SPAWNED) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    ask.send(None)
    watcher.join(200)
    assert lines == ["room/0 has ended (killed by SIGKILL). It is started again now."]
    assert len(SPAWNED) == 4
    assert [worker.is_alive() for worker in SPAWNED] == [True, False, True, True]


def test_a_room_that_cannot_start_is_tried_with_growing_pauses(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PAUSES", (0, 0.1, 0.2))
    run_until(flow_of(pod("gateway", time.sleep, 600), pod("room", exit, 3)), lines, 4)
    assert lines == [
        f"room has ended (exit code 3). It is started again {when}."
        for when in ("now", "in 0.1 s", "in 0.2 s", "in 0.2 s")
    ]
    assert len(SPAWNED) == 1 + 4, "what is due after the stop is not started"


def test_a_room_that_has_lived_long_is_started_again_at_once(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    room = RoomProcess(pod("room", exit, 0))
    assert "again now" in room.ended()
    room.start()
    assert f"again in {PAUSES[1]} s" in room.ended()
    monkeypatch.setattr(supervision, "STEADY_SECONDS", 0.0)
    room.start()
    assert "again now" in room.ended()


def test_a_flow_that_is_asked_to_stop_starts_nothing(lines: list[str]) -> None:
    room = pod("room", exit, 0)
    room.worker.join()
    stop, ask = multiprocessing.Pipe(duplex=False)
    ask.send(None)
    keep_up(flow_of(room), stop, lines.append)
    assert lines == []
    assert len(SPAWNED) == 1
