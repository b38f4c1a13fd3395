"""Ports for what tests start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from finetuner.flow.settings import reserve_port


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Give ports of loopback on which nothing listens, held as a Flow holds its own until the block ends."""
    with ExitStack() as held:
        yield [reserve_port(0, "127.0.0.1", "", held) for _ in range(count)]
