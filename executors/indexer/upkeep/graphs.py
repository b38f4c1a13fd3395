"""Builds graphs in the background for collections with enough vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from finetuner.executors.indexer.engines.engine import EXACT_BELOW, Collection
from finetuner.executors.indexer.storage.folders import Collections

LOOK_SECONDS = 5.0
# A growing collection gets a new graph when its vectors outside the graph reach this share of those inside.
GROWN = 0.5
# A collection without writes for this long gets its graph at once.
REST_SECONDS = 30.0
RETRY_SECONDS = 600.0


class Graphs:
    """Checks the collections in its own thread until `close`.

    Args:
        collections: of the index; collections may come and go.
        log: receives failures.
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
        """The artifact whose graph is being built, or ''."""
        self.problems: dict[str, str] = {}
        """Artifact -> the reason why its graph was not built."""
        self._thread = threading.Thread(target=self._run, name="graphs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and a running build."""
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
