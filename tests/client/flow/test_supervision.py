"""Rooms that end restart with growing pauses, until the Flow stops."""

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
from finetuner.flow.supervision import PAUSES, RoomProcess, rooms_of, supervise

SPAWNED: list[Any] = []


class Pod:
    """A stand-in for Jina's pod: a process that starts once."""

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


def flow_with(gateway: Pod, *replicas: Pod) -> Any:
    empty = {"uses_before_pod": None, "uses_after_pod": None, "head_pod": None}
    gateway_deployment = SimpleNamespace(**empty, gateway_pod=gateway, shards={})
    room = SimpleNamespace(**empty, gateway_pod=None, shards={0: SimpleNamespace(_pods=list(replicas))})
    return {"gateway": gateway_deployment, "room": room}.items()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    SPAWNED.clear()
    yield []
    for worker in SPAWNED:
        worker.kill()
        worker.join()


def run_until(flow: Any, lines: list[str], count: int) -> None:
    """Supervise the Flow until `count` lines are reported, then stop."""
    stop, ask = multiprocessing.Pipe(duplex=False)

    def report(line: str) -> None:
        lines.append(line)
        if len(lines) == count:
            ask.send(None)

    watcher = threading.Thread(target=supervise, args=(rooms_of(flow), stop, report))
    watcher.start()
    watcher.join(200)
    assert not watcher.is_alive()


def test_a_killed_room_restarts_alone(lines: list[str]) -> None:
    gateway, killed, other = (
        pod("gateway", time.sleep, 600),
        pod("room/0", time.sleep, 600),
        pod("room/1", time.sleep, 600),
    )
    stop, ask = multiprocessing.Pipe(duplex=False)
    watcher = threading.Thread(target=supervise, args=(rooms_of(flow_with(gateway, killed, other)), stop, lines.append))
    watcher.start()
    os.kill(killed.worker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 200
    while len(SPAWNED) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    ask.send(None)
    watcher.join(200)
    assert lines == ["room/0 has ended (killed by SIGKILL). It restarts now."]
    assert len(SPAWNED) == 4
    assert [worker.is_alive() for worker in SPAWNED] == [True, False, True, True]


def test_a_room_that_cannot_start_is_retried_with_growing_pauses(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PAUSES", (0, 0.1, 0.2))
    run_until(flow_with(pod("gateway", time.sleep, 600), pod("room", exit, 3)), lines, 4)
    assert lines == [
        f"room has ended (exit code 3). It restarts {when}." for when in ("now", "in 0.1 s", "in 0.2 s", "in 0.2 s")
    ]
    assert len(SPAWNED) == 1 + 4, "a room due after the stop does not start"


def test_a_room_restarts_at_once_after_a_long_life(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    room = RoomProcess(pod("room", exit, 0))
    assert "restarts now" in room.schedule_restart()
    room.start()
    assert f"restarts in {PAUSES[1]} s" in room.schedule_restart()
    monkeypatch.setattr(supervision, "STEADY_SECONDS", 0.0)
    room.start()
    assert "restarts now" in room.schedule_restart()


def test_a_stopped_flow_starts_no_room(lines: list[str]) -> None:
    room = pod("room", exit, 0)
    room.worker.join()
    stop, ask = multiprocessing.Pipe(duplex=False)
    ask.send(None)
    supervise(rooms_of(flow_with(room)), stop, lines.append)
    assert lines == []
    assert len(SPAWNED) == 1
