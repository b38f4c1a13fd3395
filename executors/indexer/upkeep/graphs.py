"""Builds graphs in the background, where there are enough vectors to be worth one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from executors.indexer.engines.engine import EXACT_BELOW, Collection
from executors.indexer.storage.folders import Collections

LOOK_SECONDS = 5.0
# A collection that keeps growing waits until so much of it, beside the graph, is compared one by one ...
GROWN = 0.5
# ... and one at rest this long is built at once.
REST_SECONDS = 30.0
RETRY_SECONDS = 600.0


class Graphs:
    """Looks at the collections in a thread of its own, until `close`.

    Args:
        collections: as they come and go.
        log: told what does not go on.
        spare: bytes that a build leaves free on the disk.
    """

    def __init__(self, collections: Collections, log: Callable[[str], None], spare: int = 0) -> None:
        self._collections = collections
        self._log = log
        self._spare = spare
        self._closed = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}
        self._failed: dict[str, float] = {}
        self.building = ""
        """The artifact whose graph is being built now, '' where none is."""
        self.problems: dict[str, str] = {}
        """Why a graph was not built, a sentence by artifact."""
        self._thread = threading.Thread(target=self._run, name="graphs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and what it has under way."""
        self._closed.set()
        building = self._collections.all().get(self.building)
        if building is not None:
            building.stop()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            for artifact, collection in self._collections.all().items():
                if self._closed.is_set():
                    return
                try:
                    if self._due(artifact, collection):
                        self.building = artifact
                        collection.optimise(self._spare)
                        self.problems.pop(artifact, None)
                except Exception as error:
                    self._failed[artifact] = time.monotonic()
                    if not self._closed.is_set():
                        self.problems[artifact] = f"the graph of {artifact!r} is not built: {error}"
                        self._log(self.problems[artifact])
                finally:
                    self.building = ""

    def _due(self, artifact: str, collection: Collection) -> bool:
        state, now = collection.graph(), time.monotonic()
        count, since = self._seen.get(artifact, (-1, now))
        if count != state.vectors:
            since = now
        self._seen[artifact] = (state.vectors, since)
        if now - self._failed.get(artifact, -RETRY_SECONDS) < RETRY_SECONDS:
            return False
        waiting = state.vectors - state.indexed
        return waiting >= EXACT_BELOW and (waiting >= GROWN * state.indexed or now - since >= REST_SECONDS)
