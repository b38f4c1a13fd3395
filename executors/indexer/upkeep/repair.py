"""Checks all vectors once after opening, because the engine opens some damaged files without an error.

Damaged vector files read as zeros; damaged id files as missing or outdated points. The repair removes each damaged
vector. Its document then waits for a new one, and documents of `live` are encoded again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetuner.exceptions import NotFound
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep.verify import lone_vectors, lost_vectors

# Share of the time spent on checking; the rest is for live traffic.
SHARE = 0.1
ENCODED_AGAIN = "Documents of `live` are encoded again. Restore others from a backup."


class Repair:
    """Repairs every collection once, in its own thread, until `close`.

    Args:
        index: just opened.
        waiting: called when documents wait for a new vector.
        log: receives findings.
    """

    def __init__(self, index: Index, waiting: Callable[[], None], log: Callable[[str], None]) -> None:
        self._index = index
        self._waiting = waiting
        self._log = log
        self._closed = threading.Event()
        self.problems: list[str] = []
        """One sentence for each finding."""
        self._thread = threading.Thread(target=self._run, name="repair", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. The next opening starts a new check."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        with self._reported("lost collections"):
            for artifact in forget_lost_collections(self._index):
                self._report(f"the collection of {artifact!r} is lost. {ENCODED_AGAIN}")
                self._waiting()
        for artifact in self._index.collections.all():
            with self._reported(f"vectors of {artifact!r}"):
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
    def _reported(self, subject: str) -> Iterator[None]:
        try:
            yield
        except NotFound:  # the collection was dropped meanwhile
            pass
        except Exception as error:
            self._report(f"the check of {subject} failed: {error}")

    def _report(self, problem: str) -> None:
        self.problems.append(problem)
        self._log(problem)


def forget_lost_collections(index: Index) -> list[str]:
    """Record that documents of collections without a folder have no vector. Return the artifacts."""
    with index.writing:
        lost = [artifact for artifact in index.documents.artifacts() if artifact not in index.collections]
        for artifact in lost:
            index.documents.forget(artifact)
    return lost


def repair(index: Index, artifact: str) -> Iterator[int]:
    """Remove damaged vectors and vectors without a document, page by page. Writes run between pages.

    Yields:
        The number of documents of the page that have lost their vector.

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
