"""Re-index: encodes every document with the promoted artifact, then lets `live` search that artifact.

Vectors of a tower that the artifact shares with the searched one are taken over first, see `reuse`.
Progress is on disk: the document versions with a vector in the new collection. A kill at any moment costs one batch.
A document written meanwhile has a newer version and is encoded later. The last few documents are encoded while writes
wait, and the pointer moves before writes continue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from docarray import Document

from finetuner.contract.wire import MAX_REQUEST_BYTES, TOWER_TAG, error_of
from finetuner.documents.images import is_text
from finetuner.documents.parts import has_own_content, parts_of
from finetuner.exceptions import (
    CorruptedArtifact,
    InvalidInput,
    KeysMismatchError,
    NotFound,
)  # fmt: skip
from finetuner.executors.indexer.engines.engine import Point
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.retrieval.vectors import join_parts, take_tower, vector_of
from finetuner.executors.indexer.storage.documents import StoredDocument
from finetuner.executors.indexer.storage.fields import filterable
from finetuner.executors.indexer.storage.packing import unpack
from finetuner.executors.indexer.upkeep.live import CANCELED, FAILED, FINISHED, RUNNING, Job, Live
from finetuner.executors.indexer.upkeep.reuse import reuse_vectors
from finetuner.models.clip import TEXT, VISION

Encode = Callable[[str, Sequence[Document]], list[Document]]

BATCH = 32
LOOK_SECONDS = 0.5
RETRY_SECONDS = 2.0
CATCH_UP_SECONDS = 10.0  # searches find an acknowledged write, unless the encoders take longer
# The artifact itself cannot be served, so a retry is useless.
FINAL = (NotFound, CorruptedArtifact, KeysMismatchError)


class Reindex:
    """Runs the re-index of each promotion in its own thread until `close`.

    Args:
        index: with the documents.
        live: the pointers.
        encode: (artifact, documents) -> the documents, each with embedding or error.
        share: of the time that is spent encoding, in (0, 1]; the rest is for live traffic.
        tolerance: share of the documents that may fail to encode before the re-index fails, in [0, 1].
        log: receives failures.
    """

    def __init__(
        self, index: Index, live: Live, encode: Encode, share: float, tolerance: float, log: Callable[[str], None]
    ) -> None:
        self._index = index
        self._live = live
        self._encode = encode
        self._share = share
        self._tolerance = tolerance
        self._log = log
        self._closed = threading.Event()
        self._noting = threading.Lock()
        self._look = threading.Event()
        self._behind = True  # the searched artifact may lack vectors of written documents
        self._caught_up = threading.Event()
        self._waiting_for = ""
        self._rate = 0.0
        self._thread = threading.Thread(target=self._run, name="re-index", daemon=True)
        self._thread.start()

    def written(self, artifacts: set[str]) -> None:
        """Take note of documents just written for `live` with these artifacts. Return when searches find them.

        Documents that were encoded before a flip and arrive after it wait here until they are encoded again.
        """
        with self._index.writing:
            searched = self._live.searched
            if not searched and artifacts:
                searched = sorted(artifacts)[0]
                self._live.search_with(searched)
            behind = bool(artifacts - {searched})
            if behind:
                self._behind = True
                self._caught_up.clear()
                self._look.set()
        if behind and self._live.wanted() is None:
            self._caught_up.wait(CATCH_UP_SECONDS)

    def look_again(self) -> None:
        """Take note of documents that have lost their vector."""
        self._behind = True
        self._look.set()

    def status(self) -> dict[str, Any] | None:
        """Return the last job: artifact, source, state, documents, done, left_out, eta_seconds, error."""
        with self._noting:  # never report a finished job as running
            job = self._live.wanted() or self._live.job()
        if job is None:
            return None
        progress = self._index.documents.progress(job.artifact)
        left = progress.documents - progress.done - progress.left_out
        running = job.state == RUNNING
        return {
            "artifact": job.artifact, "source": job.source, "state": job.state,
            "documents": progress.documents, "done": progress.done, "left_out": progress.left_out,
            "eta_seconds": left / self._rate if running and self._rate else None,
            "error": self._waiting_for if running else job.error,
        }  # fmt: skip

    def cancel(self) -> dict[str, Any]:
        """Cancel the running job. `live` keeps its artifact until the next promotion.

        Raises:
            InvalidInput: no job is running.
        """
        with self._noting:
            job = self._live.wanted()
            if job is None:
                raise InvalidInput("a re-index must be running to be canceled. Got none. See /status.")
            self._live.note(job, CANCELED)
        return self.status() or {}

    def close(self) -> None:
        """Stop the thread. The next indexer of this workspace continues the job."""
        self._closed.set()
        self._look.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._work()
                self._waiting_for = ""
                pause = LOOK_SECONDS
            except Exception as error:  # the Flow is not up yet or too busy; the next round tries again
                if str(error) != self._waiting_for:
                    self._log(f"the re-index waits: {error}")
                self._waiting_for = str(error)
                pause = RETRY_SECONDS
            self._look.wait(pause)
            self._look.clear()

    def _work(self) -> None:
        job = self._live.wanted()
        if job is None:
            searched = self._live.searched
            if searched and self._behind:
                self._behind = False
                try:
                    self._follow(searched, lambda: self._live.searched == searched)
                except Exception:
                    self._behind = True
                    raise
            if not self._behind:
                self._caught_up.set()
            return
        with self._noting:
            known = self._live.job()
            if known is None or (known.artifact, known.promoted_at) != (job.artifact, job.promoted_at):
                self._index.documents.forget(job.artifact, only_errors=True)
                self._live.note(job, RUNNING)
        if self._index.sizes.of(job.source) == self._index.sizes.of(job.artifact):
            reuse_vectors(self._index, job.source, job.artifact, self._live.shared_towers(job))
        try:
            self._follow(job.artifact, lambda: self._is_wanted(job), job)
        except FINAL as error:
            self._end(job, FAILED, str(error))

    def _is_wanted(self, job: Job) -> bool:
        wanted = self._live.wanted()
        return wanted is not None and (wanted.artifact, wanted.promoted_at) == (job.artifact, job.promoted_at)

    def _follow(self, artifact: str, wanted: Callable[[], bool], job: Job | None = None) -> None:
        """Encode all documents that wait for an artifact; then flip, if this is for a job."""
        after, began, done = 0, time.monotonic(), 0
        documents = self._index.documents
        while not self._closed.is_set() and wanted():
            started = time.monotonic()
            batch = documents.pending(artifact, after, BATCH, MAX_REQUEST_BYTES)
            if len(batch) < BATCH and sum(len(stored.packed) for stored in batch) < MAX_REQUEST_BYTES // 2:
                with self._index.writing:  # few are left: writes wait, so no document can come after them
                    batch = documents.pending(artifact, after, BATCH, MAX_REQUEST_BYTES)
                    self._encode_batch(artifact, batch)
                    if not documents.pending(artifact, after, 1, 0):
                        if job is not None:
                            self._flip(job)
                        return
            else:
                self._encode_batch(artifact, batch)
            after = batch[-1].version if batch else after
            done += len(batch)
            self._rate = done / (time.monotonic() - began)
            self._closed.wait((time.monotonic() - started) * (1 / self._share - 1))

    def _encode_batch(self, artifact: str, batch: Sequence[StoredDocument]) -> None:
        """Store the vectors of one batch. Skip documents that were written or deleted meanwhile."""
        documents: list[Document] = []
        errors: dict[str, str] = {}
        for stored in batch:
            try:
                documents.append(unpack(stored.packed, stored.id))
            except InvalidInput as unreadable:
                errors[stored.id] = str(unreadable)
                self._index.documents.note_damage(stored.id)
        parts = [part for document in documents for part in parts_of(document) if has_own_content(part)]
        for part, answer in zip(parts, self._encode(artifact, parts) if parts else [], strict=True):
            error = error_of(answer)
            if error is not None and not isinstance(error, InvalidInput):
                raise error
            part.embedding = answer.embedding
            part.tags.update(answer.tags)
            part.tags[TOWER_TAG] = TEXT if is_text(part) else VISION
        self._index.sizes.cut(parts)
        vectors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
        towers: dict[str, str] = {}
        for document in documents:
            try:
                if (error := error_of(document)) is not None:
                    raise error
                if not has_own_content(document) and not document.chunks:
                    raise InvalidInput("it has no content to encode again")
                join_parts(document)
                towers[document.id] = take_tower(document)
                vectors[document.id] = vector_of(document)
            except InvalidInput as unusable:
                errors[document.id] = str(unusable)
        read = {stored.id: stored.version for stored in batch}
        with self._index.writing:
            now = self._index.documents.versions(read)
            same = {key for key, version in read.items() if now.get(key) == version}
            points = [
                Point(document.id, vectors[document.id], filterable(document.tags))
                for document in documents
                if document.id in vectors and document.id in same
            ]
            self._index.store(artifact, points, read, towers)
            left_out = {key: read[key] for key in errors if key in same}
            if left_out:
                if artifact in self._index.collections:  # the vector of an older version must not stand for this one
                    self._index.collections[artifact].delete(left_out)
                self._index.documents.mark(artifact, left_out, errors)

    def _flip(self, job: Job) -> None:
        """Let `live` search the job's artifact, unless too many vectors are missing. Writes wait."""
        documents = self._index.documents
        progress = documents.progress(job.artifact)
        if progress.left_out > self._tolerance * progress.documents:
            self._end(
                job,
                FAILED,
                f"{progress.left_out} of {progress.documents} documents cannot be encoded by {job.artifact!r}; the "
                f"first is {documents.first_error(job.artifact)} Delete them or raise `reindex_tolerance`, then "
                "promote again.",
            )
            return
        with self._noting:
            if not self._is_wanted(job):  # canceled or replaced by another promotion meanwhile
                return
            documents.make_live(job.artifact)
            self._live.search_with(job.artifact)
            self._live.note(job, FINISHED)

    def _end(self, job: Job, state: str, error: str) -> None:
        with self._noting:
            if self._is_wanted(job):
                self._log(f"the re-index to {job.artifact!r} failed: {error}")
                self._live.note(job, state, error)
