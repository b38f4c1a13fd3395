"""A room's process as Jina runs it, but for the address of its metrics: Jina's listen on every one, and ask nobody."""

from __future__ import annotations

from functools import partial
from typing import Any


def show_metrics_on(address: str) -> None:
    """Let the rooms that this process starts from now on show their metrics on one address.

    Args:
        address: such as '127.0.0.1'.
    """
    from jina.orchestrate import pods

    pods.run = partial(run_room, address)


def run_room(address: str, **settings: Any) -> None:
    """Run a room in this process; what the process is started with."""
    import prometheus_client
    from jina.serve.executors.run import run

    prometheus_client.start_http_server = partial(prometheus_client.start_http_server, addr=address)
    run(**settings)
