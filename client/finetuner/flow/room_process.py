"""Runs a room's process as Jina does, but serves its metrics on one address only.

Jina's metrics listen on every address of the machine and require no token.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any


def show_metrics_on(address: str) -> None:
    """Make all rooms that this process starts from now on serve their metrics on one address.

    Args:
        address: for example '127.0.0.1'.
    """
    from jina.orchestrate import pods

    pods.run = partial(run_room, address)


def run_room(address: str, **settings: Any) -> None:
    """Run a room in this process until it ends.

    Args:
        address: address that its metrics listen on.
        settings: arguments of Jina's `run`.
    """
    import prometheus_client
    import uvloop
    from jina.serve.executors.run import run

    prometheus_client.start_http_server = partial(prometheus_client.start_http_server, addr=address)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # Jina makes the room's event loop by it
    run(**settings)
