"""Requests in a lane, and the order in which they take turns."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetuner.documents.images import is_text

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document

    from .runner import Runner


class Ticket:
    """The documents of one request in the lane. `done` completes once each has its embedding or its error.

    Args:
        documents: the admitted documents.
        tokens: gets the number of tokens of each text by its position; None for no count.
    """

    def __init__(self, documents: Sequence[Document], tokens: dict[int, int] | None = None) -> None:
        self.documents = documents
        self.tokens = tokens
        self.results: list[np.ndarray | Exception | None] = [None] * len(documents)
        self.left = len(documents)
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def complete(self) -> None:
        """Complete `done`, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(self._complete)

    def _complete(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


@dataclass(eq=False, slots=True)
class Entry:
    """One document of a ticket."""

    ticket: Ticket
    position: int
    """Index in the ticket."""
    runner: Runner
    """Model that encodes the document."""
    document: Document
    blob: bytes | None = None
    """Content of the image, if it was fetched by URI."""
    item: Any = None
    """Pixels or tokens that the runner prepared."""
    since: float = field(default_factory=time.perf_counter)
    """Time of admission, by `time.perf_counter`."""
    ready: float = 0.0
    """Time of preparation, likewise."""

    @property
    def is_remote(self) -> bool:
        """Whether the document's content must be fetched."""
        document = self.document
        here = is_text(document) or bool(document.blob) or document.tensor is not None
        return not here and bool(document.uri) and not document.uri.startswith("data:")


def sorted_batches(entries: Sequence[Entry], size: int) -> list[list[Entry]]:
    """Return the batches of one runner's prepared entries: texts of a length together, the shortest request first.

    Args:
        entries: of one runner.
        size: largest number of entries of a batch.
    """
    if not entries:
        return []
    lengths = entries[0].runner.lengths([entry.item for entry in entries])
    order = sorted(range(len(entries)), key=lengths.__getitem__)
    batches = [[entries[place] for place in order[start : start + size]] for start in range(0, len(order), size)]
    return sorted(batches, key=lambda batch: min(entry.ticket.left for entry in batch))


class Turns:
    """A round-robin queue of entries: each ticket in turn gives one. The caller holds the lock."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Ticket, deque[Entry]] = OrderedDict()
        self._counts: Counter[Runner] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def count(self, runner: Runner) -> int:
        """Return the number of entries for a runner."""
        return self._counts[runner]

    @property
    def next(self) -> Entry:
        """The entry whose turn it is. The queue must not be empty."""
        return next(iter(self._lines.values()))[0]

    def put(self, entry: Entry) -> None:
        """Add an entry at the end of its ticket's line."""
        self._lines.setdefault(entry.ticket, deque()).append(entry)
        self._counts[entry.runner] += 1

    def take(self, most: int) -> list[Entry]:
        """Remove up to `most` entries of the runner whose turn it is, one per ticket and turn."""
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

    def take_shorter(self, runner: Runner, than: int, most: int) -> list[Entry]:
        """Remove up to `most` entries of a runner, of tickets with at most `than` documents left."""
        taken: list[Entry] = []
        for ticket in [ticket for ticket, line in self._lines.items() if line[0].runner is runner]:
            if ticket.left <= than and len(taken) + len(self._lines[ticket]) <= most:
                taken += self._lines.pop(ticket)
        if taken:
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
