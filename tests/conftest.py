"""What tests of several rooms share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.ports import held_ports

# Jina chooses a room's port long before the room listens: each process of tests has its own range to choose from.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ |= {"JINA_RANDOM_PORT_MIN": f"{61000 + 1000 * WORKER}", "JINA_RANDOM_PORT_MAX": f"{61999 + 1000 * WORKER}"}


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Give a port on which nothing listens, chosen by the system."""
    with held_ports(1) as (port,):
        yield port


@pytest.fixture(scope="module")
def forkable() -> None:
    """Free gRPC's channels that tests have left, before this process is forked.

    Jina forks a Flow's rooms. Where a channel is alive, a room may wait for its thread, which no room has, and that
    thread was seen to end this process by SIGSEGV.
    """
    gc.collect()
