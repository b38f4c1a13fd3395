"""Channels that are kept: one for each host, none after an error, and others in the children of a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from finetuner.contract import wire
from finetuner.exceptions import FlowUnreachable
from finetuner.transport import channels, messages, over_grpc

ROOT = Path(__file__).parents[3]


class Gateway(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is not typed
    """Answers each request with a Flow's empty answer, or with the next of `failures`."""

    def __init__(self) -> None:
        self.asked = 0
        self.failures: list[grpc.StatusCode] = []
        self.peers: set[str] = set()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, _: bytes, context: Any) -> bytes:
        self.asked += 1
        self.peers.add(context.peer())
        if self.failures:
            context.abort(self.failures.pop(0), "stopped")
        return messages.request("/", b"", {})


@pytest.fixture
def gateway() -> Iterator[tuple[Gateway, str]]:
    answers, server = Gateway(), grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((answers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield answers, f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()
    for opened in channels._idle.values():
        opened.close()
    channels._idle.clear()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep channels, although this process has imported gRPC without its support for forks."""
    monkeypatch.setattr(channels, "load_grpc", lambda: (grpc, True))


def ask(host: str, endpoint: str = wire.SEARCH) -> None:
    over_grpc.ask(host, "", endpoint, b"", {})


@pytest.mark.usefixtures("kept")
def test_requests_share_a_channel_until_an_error(gateway: tuple[Gateway, str]) -> None:
    answers, host = gateway
    for _ in range(3):
        ask(host)
    assert len(answers.peers) == 1
    first = channels._idle[host]
    answers.failures = [grpc.StatusCode.INTERNAL]
    with pytest.raises(Exception, match="stopped"):
        ask(host)
    assert host not in channels._idle
    ask(host)
    assert channels._idle[host] is not first


def test_a_process_that_may_not_keep_them_closes_them(
    gateway: tuple[Gateway, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "load_grpc", lambda: (grpc, False))
    ask(gateway[1])
    assert not channels._idle


def test_a_read_is_repeated_and_a_write_is_not(gateway: tuple[Gateway, str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers, host = gateway
    monkeypatch.setattr(over_grpc, "PAUSES", (0, 0))
    answers.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    ask(host)
    assert answers.asked == 3
    for endpoint, tries, code in (
        (wire.FIT, 1, grpc.StatusCode.UNAVAILABLE),
        (wire.INDEX, 1, grpc.StatusCode.UNAVAILABLE),
        (wire.SEARCH, 3, grpc.StatusCode.UNAVAILABLE),
        (wire.SEARCH, 1, grpc.StatusCode.UNIMPLEMENTED),  # another service
    ):
        answers.asked, answers.failures = 0, [code] * tries
        with pytest.raises(FlowUnreachable, match="stopped"):
            ask(host, endpoint)
        assert answers.asked == tries


def test_a_child_of_a_request_in_flight_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_broken", True)
    with pytest.raises(FlowUnreachable, match="gRPC must be idle when a process forks.*'spawn'"):
        ask("grpc://127.0.0.1:1")


FORKS = """
import os, signal, sys
from finetuner.transport import channels, over_grpc
host, count = sys.argv[1], int(sys.argv[2])
over_grpc.ask(host, "", "/search", b"", {})
for _ in range(count):
    child = os.fork()
    if not child:
        signal.alarm(60)
        assert host not in channels._idle
        over_grpc.ask(host, "", "/search", b"", {})
        assert host in channels._idle
        os._exit(0)
    over_grpc.ask(host, "", "/search", b"", {})
    assert os.waitpid(child, 0)[1] == 0
assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
"""


@pytest.mark.process
def test_parent_and_child_of_a_fork_talk_on(gateway: tuple[Gateway, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, gateway[1], "100"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(gateway[0].peers) == 101, "a connection of the parent, and one of each child"


def test_threads_ask_at_the_same_time(gateway: tuple[Gateway, str], kept: None) -> None:
    errors: list[Exception] = []

    def several() -> None:
        try:
            for _ in range(20):
                ask(gateway[1])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert gateway[0].asked == 80
    assert channels._in_use == 0
