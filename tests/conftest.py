"""What tests of several rooms share."""

from __future__ import annotations

import gc
import socket

import pytest


@pytest.fixture
def unused_port() -> int:
    """Return a port on which nothing listens, chosen by the system."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def forkable() -> None:
    """Free gRPC's channels that tests have left, before this process is forked.

    Jina forks a Flow's rooms. Where a channel is alive, a room may wait for its thread, which no room has, and that
    thread was seen to end this process by SIGSEGV.
    """
    gc.collect()
