"""Jina's parts that `finetuner.flow.room_process` replaces: they exist, and Jina's metrics still take every address."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
import uvloop
from jina.orchestrate import pods
from jina.serve.executors import run as jinas_run
from jina.serve.runtimes.asyncio import AsyncNewLoopRuntime
from jina.serve.runtimes.monitoring import MonitoringMixin

from finetuner.flow.room_process import run_room, show_metrics_on


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The metrics servers that are started during the test; none of them listens."""
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(
        prometheus_client, "start_http_server", lambda port, **options: started.append({"port": port} | options)
    )
    return started


def setup_monitoring() -> None:
    MonitoringMixin._setup_monitoring(SimpleNamespace(), True, 9000)


def test_jinas_metrics_take_no_address(served: list[dict[str, Any]]) -> None:
    setup_monitoring()
    assert served[0].keys() == {"port", "registry"}


def test_a_room_shows_its_metrics_on_one_address(served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[dict[str, Any]] = []

    def run(**settings: Any) -> None:
        ran.append(settings)
        setup_monitoring()

    monkeypatch.setattr(jinas_run, "run", run)
    policies: list[Any] = []
    monkeypatch.setattr(asyncio, "set_event_loop_policy", policies.append)
    run_room("127.0.0.1", name="room")
    assert ran == [{"name": "room"}]
    assert isinstance(policies[0], uvloop.EventLoopPolicy)
    assert "asyncio.new_event_loop()" in inspect.getsource(AsyncNewLoopRuntime.__init__), "of the policy"
    assert (served[0]["port"], served[0]["addr"]) == (9000, "127.0.0.1")


def test_pods_start_their_process_with_a_function_of_their_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Pod` looks `run` up when it is made, and passes keyword arguments alone."""
    monkeypatch.setattr(pods, "run", pods.run)
    show_metrics_on("127.0.0.1")
    found: Callable[..., Any] = pods.run
    assert isinstance(found, partial)
    assert (found.func, found.args) == (run_room, ("127.0.0.1",))
    source = inspect.getsource(pods.Pod.__init__)
    assert "target=run," in source
    assert "args=" not in source.replace("kwargs=", "")
    assert "prometheus_client" in inspect.getsource(MonitoringMixin._setup_monitoring)
