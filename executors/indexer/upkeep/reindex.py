"""Going live: every document is encoded again by the promoted artifact, and then `live` searches that one.

Progress is what is on disk: which versions of documents have a vector in the new collection. So a kill at any moment
costs one batch. What is written meanwhile has a newer version, and its turn comes; the last few documents are done
while writes wait, and in the same moment the pointer moves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from docarray import Document

from executors.indexer.engines.engine import Point
from executors.indexer.index import Index
from executors.indexer.retrieval.vectors import join_parts, vector_of
from executors.indexer.storage.documents import StoredDocument
from executors.indexer.storage.fields import filterable
from executors.indexer.storage.packing import unpack
from executors.indexer.upkeep.live import CANCELED, FAILED, FINISHED, RUNNING, Job, Live
from finetuner.contract.wire import MAX_REQUEST_BYTES, error_of
from finetuner.documents.parts import has_own_content, parts_of
from finetuner.exceptions import (
    CorruptedArtifact,
    InvalidInput,
    KeysMismatchError,
    NotFound,
)  # fmt: skip

Encode = Callable[[str, Sequence[Document]], list[Document]]

BATCH = 32
LOOK_SECONDS = 0.5
RETRY_SECONDS = 2.0
CATCH_UP_SECONDS = 10.0  # an acknowledged write is found, unless the encoders take longer than this
# No use to try again: the artifact itself cannot be served.
FINAL = (NotFound, CorruptedArtifact, KeysMismatchError)


class Reindex:
    """Does what promotions ask for, in a thread of its own, until `close`.

    Args:
        index: with the documents.
        live: the pointers.
        encode: an artifact and documents -> the documents with embedding, or with their error.
        share: of the time that is spent encoding, in (0, 1]; the rest is left to live traffic.
        tolerance: share of the documents that may be left out, because they cannot be encoded, before it fails.
        log: told what does not go on.
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
        self._behind = True  # something may have been written that the searched artifact has no vector of
        self._caught_up = threading.Event()
        self._waiting_for = ""
        self._rate = 0.0
        self._thread = threading.Thread(target=self._run, name="re-index", daemon=True)
        self._thread.start()

    def written(self, artifacts: set[str]) -> None:
        """Be told of which artifacts documents were just written for `live`; return when searches find them.

        Documents that left the encoders before a flip and arrive after it wait here until they are encoded again.
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
        """Be told that documents which had a vector wait for one."""
        self._behind = True
        self._look.set()

    def status(self) -> dict[str, Any] | None:
        """Return the last job: artifact, source, state, documents, done, left_out, eta_seconds, error."""
        with self._noting:  # what is searched already must not be said to be on its way
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
        """End the job that is under way; `live` goes on searching what it searches, until the next promotion.

        Raises:
            InvalidInput: there is none.
        """
        with self._noting:
            job = self._live.wanted()
            if job is None:
                raise InvalidInput("a re-index must be under way to be canceled. Got none. See /status.")
            self._live.note(job, CANCELED)
        return self.status() or {}

    def close(self) -> None:
        """End the thread; the job goes on with the next indexer of this workspace."""
        self._closed.set()
        self._look.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._do_what_is_wanted()
                self._waiting_for = ""
                pause = LOOK_SECONDS
            except Exception as error:  # the Flow is not up yet, or too busy: the next look tries again
                if str(error) != self._waiting_for:
                    self._log(f"the re-index waits: {error}")
                self._waiting_for = str(error)
                pause = RETRY_SECONDS
            self._look.wait(pause)
            self._look.clear()

    def _do_what_is_wanted(self) -> None:
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
        try:
            self._follow(job.artifact, lambda: self._is_wanted(job), job)
        except FINAL as error:
            self._end(job, FAILED, str(error))

    def _is_wanted(self, job: Job) -> bool:
        wanted = self._live.wanted()
        return wanted is not None and (wanted.artifact, wanted.promoted_at) == (job.artifact, job.promoted_at)

    def _follow(self, artifact: str, wanted: Callable[[], bool], job: Job | None = None) -> None:
        """Encode what waits for an artifact until nothing does; then flip, where there is a job."""
        after, began, done = 0, time.monotonic(), 0
        documents = self._index.documents
        while not self._closed.is_set() and wanted():
            started = time.monotonic()
            batch = documents.pending(artifact, after, BATCH, MAX_REQUEST_BYTES)
            if len(batch) < BATCH and sum(len(stored.packed) for stored in batch) < MAX_REQUEST_BYTES // 2:
                with self._index.writing:  # few are left: writes wait for them, so that none comes after
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
        """Store the vectors of one batch; what was written or deleted meanwhile is passed over."""
        documents = [unpack(stored.packed) for stored in batch]
        parts = [part for document in documents for part in parts_of(document) if has_own_content(part)]
        for part, answer in zip(parts, self._encode(artifact, parts) if parts else [], strict=True):
            error = error_of(answer)
            if error is not None and not isinstance(error, InvalidInput):
                raise error
            part.embedding = answer.embedding
            part.tags.update(answer.tags)
        errors: dict[str, str] = {}
        vectors: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
        for document in documents:
            try:
                if (error := error_of(document)) is not None:
                    raise error
                if not has_own_content(document) and not document.chunks:
                    raise InvalidInput("it has no content that could be encoded again")
                join_parts(document)
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
            self._index.store(artifact, points, read)
            left_out = {key: read[key] for key in errors if key in same}
            if left_out:
                if artifact in self._index.collections:  # the vector of an older version must not stand for this one
                    self._index.collections[artifact].delete(left_out)
                self._index.documents.mark(artifact, left_out, errors)

    def _flip(self, job: Job) -> None:
        """Let `live` search the job's artifact, unless too much is missing; writes wait."""
        documents = self._index.documents
        progress = documents.progress(job.artifact)
        if progress.left_out > self._tolerance * progress.documents:
            self._end(
                job,
                FAILED,
                f"{progress.left_out} of {progress.documents} documents cannot be encoded by {job.artifact!r}; the "
                f"first is {documents.first_error(job.artifact)} Delete them, or raise `reindex_tolerance`, and "
                "promote again.",
            )
            return
        with self._noting:
            if not self._is_wanted(job):  # canceled, or something else was promoted, in this very moment
                return
            documents.make_live(job.artifact)
            self._live.search_with(job.artifact)
            self._live.note(job, FINISHED)

    def _end(self, job: Job, state: str, error: str) -> None:
        with self._noting:
            if self._is_wanted(job):
                self._log(f"the re-index to {job.artifact!r} failed: {error}")
                self._live.note(job, state, error)
