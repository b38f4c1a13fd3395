"""One request on its way through a lane, and the order in which several take turns."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document

    from .runner import Runner


class Ticket:
    """The documents that one request has in the lane; `done` ends when each has its vector or its error.

    Args:
        documents: admitted.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self.results: list[np.ndarray | Exception | None] = [None] * len(documents)
        self.left = len(documents)
        self.closed = False
        self.done: Future[None] = Future()


@dataclass(eq=False, slots=True)
class Entry:
    """One document of a ticket."""

    ticket: Ticket
    position: int
    """In the ticket."""
    runner: Runner
    """That will encode it."""
    document: Document
    blob: bytes | None = None
    """The image, where it was fetched by URI."""
    item: Any = None
    """What the runner has made of the document: pixels or tokens."""
    since: float = field(default_factory=time.perf_counter)
    """When it was admitted."""
    ready: float = 0.0
    """When it was prepared."""


class Turns:
    """Entries in the order of their tickets' turns: each ticket in turn gives one. Guarded by its user's lock."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Ticket, deque[Entry]] = OrderedDict()
        self._counts: Counter[Runner] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def count(self, runner: Runner) -> int:
        """Return how many entries are for this runner."""
        return self._counts[runner]

    @property
    def next(self) -> Entry:
        """The entry whose turn it is; there must be one."""
        return next(iter(self._lines.values()))[0]

    def put(self, entry: Entry) -> None:
        """Add an entry at the end of its ticket's line."""
        self._lines.setdefault(entry.ticket, deque()).append(entry)
        self._counts[entry.runner] += 1

    def take(self, most: int) -> list[Entry]:
        """Remove up to `most` entries, all for the runner whose turn it is, one a ticket and turn."""
        taken: list[Entry] = []
        runner = self.next.runner
        tickets = deque(ticket for ticket, line in self._lines.items() if line[0].runner is runner)
        while tickets and len(taken) < most:
            ticket = tickets.popleft()
            line = self._lines[ticket]
            taken.append(line.popleft())
            if line:
                self._lines.move_to_end(ticket)
                tickets.append(ticket)
            else:
                del self._lines[ticket]
        self._forget(runner, len(taken))
        return taken

    def drop(self, ticket: Ticket) -> None:
        """Remove a ticket's entries."""
        line = self._lines.pop(ticket, None)
        if line:
            self._forget(line[0].runner, len(line))

    def _forget(self, runner: Runner, entries: int) -> None:
        self._counts[runner] -= entries
        if not self._counts[runner]:
            del self._counts[runner]
