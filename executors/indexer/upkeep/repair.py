"""Looks through all vectors once after opening, because an index with a damaged file may open all the same.

Files of vectors that were cut or overwritten read as zeros, and those of ids as fewer points or as points of before.
What is found wrong is taken out, and its documents wait for a new vector; so those of `live` are encoded again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from executors.indexer.index import Index
from executors.indexer.upkeep.verify import lone_vectors, lost_vectors
from finetuner.exceptions import NotFound

# Of the time that is spent looking; the rest is left to live traffic.
SHARE = 0.1
ENCODED_AGAIN = "Documents of `live` are encoded again; for others see a backup."


class Repair:
    """Repairs every collection once, in a thread of its own, until `close`.

    Args:
        index: just opened.
        waiting: called when documents wait for a vector again.
        log: told what is found.
    """

    def __init__(self, index: Index, waiting: Callable[[], None], log: Callable[[str], None]) -> None:
        self._index = index
        self._waiting = waiting
        self._log = log
        self._closed = threading.Event()
        self.problems: list[str] = []
        """What was found, a sentence each."""
        self._thread = threading.Thread(target=self._run, name="repair", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what it did not come to is looked at after the next opening."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        with self._named("collections that are gone"):
            for artifact in forget_lost_collections(self._index):
                self._report(f"the collection of {artifact!r} is gone. {ENCODED_AGAIN}")
                self._waiting()
        for artifact in self._index.collections.all():
            with self._named(f"vectors of {artifact!r}"):
                self._repair(artifact)

    def _repair(self, artifact: str) -> None:
        lost, started = 0, time.monotonic()
        try:
            for found in repair(self._index, artifact):
                lost += found
                if self._closed.wait((time.monotonic() - started) * (1 / SHARE - 1)):
                    break
                started = time.monotonic()
        finally:
            if lost:
                self._report(f"{lost} vectors of {artifact!r} were damaged. {ENCODED_AGAIN}")
                self._waiting()

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except NotFound:  # dropped meanwhile
            pass
        except Exception as error:
            self._report(f"{what} could not all be looked at: {error}")

    def _report(self, problem: str) -> None:
        self.problems.append(problem)
        self._log(problem)


def forget_lost_collections(index: Index) -> list[str]:
    """Let documents of collections whose folder is gone wait for a vector; return the artifacts."""
    with index.writing:
        lost = [artifact for artifact in index.documents.artifacts() if artifact not in index.collections]
        for artifact in lost:
            index.documents.forget(artifact)
    return lost


def repair(index: Index, artifact: str) -> Iterator[int]:
    """Take out vectors that are damaged or that no document has, page by page; others write in between.

    Yields:
        How many documents of the page have lost their vector.

    Raises:
        NotFound: the collection was dropped.
        FinetunerServerError: the engine cannot read its files.
        ResourceExhausted: the disk is full.
    """
    after: str | None = ""
    while after is not None:
        with index.writing:
            lost, after = lost_vectors(index, artifact, after)
            if lost:
                index.take_out(artifact, lost)
        yield len(lost)
    while True:
        with index.writing:
            alone, after = lone_vectors(index, artifact, after)
            if alone:
                index.take_out(artifact, alone)
        yield 0
        if after is None:
            return
