"""Encodes documents of many requests: bounded queue -> decoding threads -> micro-batches -> one inference thread.

Requests take turns, document by document, at both stages, so a single image overtakes a request of hundreds. A batch
never mixes models. Texts are sorted by length, since the longest text sets the cost of a batch; much shorter requests
overtake between batches that are sorted together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from finetuner.documents.images import UriReader, is_text
from finetuner.exceptions import FinetunerError, FinetunerServerError, ResourceExhausted

from .cache import Key, VectorCache, key_of
from .metrics import LaneMetrics
from .settings import LaneSettings
from .ticket import Entry, Ticket, Turns

if TYPE_CHECKING:
    from docarray import Document

    from .runner import Runner

READY_BATCHES = 4  # batches prepared ahead; more would only fill the memory
SORTED_BATCHES = 4  # batches of texts sorted by length together
MUCH_SHORTER = 4  # times, for a request that overtakes them
PREPARING_SECONDS = 0.25  # wait of a partial batch for documents in preparation
CLOSE_SECONDS = 2.0  # wait for the threads; a fetching thread may take longer, without harm

FindRunner = Callable[[], Awaitable["Runner"]]


class Lane:
    """A lane and its threads, until `close`.

    Args:
        settings: queue, batches and threads.
        read_uri: function that fetches an image.
        metrics: metrics of this lane.
    """

    def __init__(self, settings: LaneSettings, read_uri: UriReader, metrics: LaneMetrics) -> None:
        self._settings = settings
        self._read_uri = read_uri
        self._metrics = metrics
        self._cache = VectorCache(settings.cache_mb * 2**20) if settings.cache_mb else None
        self._lock = Lock()
        self._fetchable, self._preparable, self._batchable = (Condition(self._lock) for _ in range(3))
        self._to_fetch, self._to_prepare, self._ready = Turns(), Turns(), Turns()
        self._preparing = 0
        self._waiting = 0
        self._closed = False
        metrics.waiting.set_function(lambda: self._waiting)
        works = [self._infer] + [self._prepare] * settings.decoders + [self._fetch] * settings.fetchers
        self._threads = [Thread(target=work, name=f"lane{work.__name__}", daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    async def encode(
        self, documents: Sequence[Document], find_runner: FindRunner, tokens: dict[int, int] | None = None
    ) -> list[np.ndarray | Exception]:
        """Return the embedding of each document, (dim,) float32, L2-normalised, or its error, in order.

        Never waits longer than the deadline, even if a thread hangs.

        Args:
            documents: documents for the runner's tower; not changed.
            find_runner: returns the model, once it is loaded.
            tokens: gets the number of tokens of each text by its position; None for no count.

        Raises:
            FinetunerError: an error of `find_runner`.
        """
        admitted = self._admit(len(documents))
        ticket = Ticket(documents[:admitted], tokens)
        try:
            async with asyncio.timeout(self._settings.deadline):
                runner = await find_runner()
                keys = self._answer_known(ticket, runner)
                rows = [row for row in range(admitted) if ticket.results[row] is None]
                self._start(ticket, [Entry(ticket, row, runner, documents[row]) for row in rows])
                await ticket.done
                self._keep(ticket, keys)
        except TimeoutError:
            pass
        finally:
            self._drop(ticket)
        late = ResourceExhausted(
            f"document must be answered within {self._settings.deadline:g} s. It was not. Try later."
        )
        full = ResourceExhausted(
            f"queue must hold at most {self._settings.queue_size} documents. It is full. Send fewer, or later."
        )
        results: list[np.ndarray | Exception] = [late if result is None else result for result in ticket.results]
        return results + [full] * (len(documents) - admitted)

    def close(self) -> None:
        """Stop the threads. Waiting documents get no result."""
        with self._lock:
            self._closed = True
            for condition in (self._fetchable, self._preparable, self._batchable):
                condition.notify_all()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:  # a thread inside torch at Python's exit would abort the process
            thread.join(max(0.0, deadline - time.monotonic()))

    def _admit(self, documents: int) -> int:
        """Admit as many documents as the queue has room for, and return their number."""
        with self._lock:
            admitted = min(documents, self._settings.queue_size - self._waiting)
            self._waiting += admitted
            return admitted

    def _start(self, ticket: Ticket, entries: list[Entry]) -> None:
        if not entries:
            ticket.complete()
            return
        beside = entries[0].runner.prepares_beside
        with self._lock:
            for entry in entries:
                if not beside:
                    entry.ready = entry.since
                    self._ready.put(entry)
                else:
                    (self._to_fetch if _is_remote(entry) else self._to_prepare).put(entry)
            if not beside:
                self._batchable.notify()
            else:
                self._fetchable.notify(len(self._to_fetch))
                self._preparable.notify(len(self._to_prepare))

    def _answer_known(self, ticket: Ticket, runner: Runner) -> dict[int, Key]:
        """Answer the documents whose vectors are known, and return the keys of the others by their position."""
        if self._cache is None:
            return {}
        unknown: dict[int, Key] = {}
        for row, document in enumerate(ticket.documents):
            key = key_of(runner.model_id, document)
            vector, tokens = (None if key is None else self._cache.find(key)) or (None, None)
            if vector is not None and (ticket.tokens is None or tokens is not None):
                ticket.results[row] = vector
                if ticket.tokens is not None and tokens is not None:
                    ticket.tokens[row] = tokens
            elif key is not None:
                unknown[row] = key
        known = sum(result is not None for result in ticket.results)
        with self._lock:
            ticket.left -= known
            self._waiting -= known
        self._metrics.cached(known, len(ticket.documents) - known)
        return unknown

    def _keep(self, ticket: Ticket, keys: dict[int, Key]) -> None:
        for row, key in keys.items():
            vector = ticket.results[row]
            if self._cache is not None and isinstance(vector, np.ndarray):
                self._cache.keep(key, vector, None if ticket.tokens is None else ticket.tokens.get(row))

    def _drop(self, ticket: Ticket) -> None:
        """Remove a ticket. Its remaining documents are not computed."""
        with self._lock:
            for turns in (self._to_fetch, self._to_prepare, self._ready):
                turns.drop(ticket)
            ticket.closed = True
            self._waiting -= ticket.left
            self._preparable.notify_all()

    def _finish(self, entry: Entry, result: np.ndarray | Exception) -> None:
        """Store a document's result. The last result completes the request."""
        ticket = entry.ticket
        with self._lock:
            if ticket.closed:
                return
            ticket.results[entry.position] = result
            ticket.left -= 1
            self._waiting -= 1
            if ticket.left:
                return
        ticket.complete()

    def _fetch(self) -> None:
        """Fetch images until the lane is closed."""
        while True:
            with self._lock:
                self._fetchable.wait_for(lambda: self._closed or len(self._to_fetch))
                if self._closed:
                    return
                (entry,) = self._to_fetch.take(1)
            started = time.perf_counter()
            try:
                entry.blob = self._read_uri(entry.document.uri)
            except Exception as error:
                self._finish(entry, error.with_traceback(None) if isinstance(error, FinetunerError) else error)
                continue
            finally:
                self._metrics.fetch.observe(time.perf_counter() - started)
            with self._lock:
                if not entry.ticket.closed:
                    self._to_prepare.put(entry)
                    self._preparable.notify()

    def _prepare(self) -> None:
        """Turn documents into pixels or tokens until the lane is closed."""
        ahead = READY_BATCHES * self._settings.batch_size
        while True:
            with self._lock:
                self._preparable.wait_for(
                    lambda: self._closed or (len(self._to_prepare) and len(self._ready) + self._preparing < ahead)
                )
                if self._closed:
                    return
                (entry,) = self._to_prepare.take(1)
                self._preparing += 1
            prepared = self._prepare_one(entry)
            with self._lock:
                self._preparing -= 1
                if prepared and not entry.ticket.closed:
                    entry.ready = time.perf_counter()
                    self._ready.put(entry)
                self._batchable.notify()

    def _prepare_one(self, entry: Entry) -> bool:
        """Prepare a document, or finish it with its error. Return whether it is prepared."""
        started = time.perf_counter()
        try:
            entry.item = entry.runner.prepare(entry.document, lambda _: entry.blob or b"")
            if entry.ticket.tokens is not None and entry.runner.reads_texts:
                entry.ticket.tokens[entry.position] = entry.runner.count(entry.item)
        except FinetunerError as error:
            # its frames refer to the document in a cycle, which is freed late
            self._finish(entry, error.with_traceback(None))
        except Exception as error:  # unexpected: it is logged with its traceback
            self._finish(entry, error)
        finally:
            self._metrics.decode.observe(time.perf_counter() - started)
        return entry.item is not None

    def _infer(self) -> None:
        """Run batches until the lane is closed."""
        size = self._settings.batch_size
        while entries := self._next_entries():
            runner = entries[0].runner
            entries = self._prepared(entries)
            entries.sort(key=lambda entry: entry.runner.length(entry.item))
            batches = [entries[start : start + size] for start in range(0, len(entries), size)]
            batches.sort(key=lambda batch: min(entry.ticket.left for entry in batch))  # the shortest request first
            for number, each in enumerate(batches):
                if number:
                    self._run(runner, self._prepared(self._overtaking(runner, each)))
                self._run(runner, each)

    def _prepared(self, entries: list[Entry]) -> list[Entry]:
        """Return the entries that are prepared; those of a runner that prepares nothing beside are prepared now."""
        if not entries or entries[0].runner.prepares_beside:
            return entries
        return [entry for entry in entries if not entry.ticket.closed and self._prepare_one(entry)]

    def _overtaking(self, runner: Runner, batch: list[Entry]) -> list[Entry]:
        """Remove and return the entries of requests much shorter than those of a batch, which have come since."""
        least = min(entry.ticket.left for entry in batch)
        with self._lock:
            return self._ready.take_shorter(runner, least // MUCH_SHORTER, self._settings.batch_size)

    def _next_entries(self) -> list[Entry]:
        """Wait for a batch, full or partial, or for several batches of texts. Return [] once the lane is closed."""
        size = self._settings.batch_size
        with self._lock:
            while not self._closed:
                seconds = self._seconds_to_wait(size)
                if seconds is not None and seconds <= 0:
                    most = size * (SORTED_BATCHES if self._ready.next.runner.reads_texts else 1)
                    entries = self._ready.take(most)
                    self._preparable.notify_all()
                    return entries
                self._batchable.wait(seconds)
        return []

    def _seconds_to_wait(self, size: int) -> float | None:
        """Return the seconds that the next batch may still wait to fill up, or None without a ready entry."""
        if not len(self._ready):
            return None
        entry = self._ready.next
        if self._ready.count(entry.runner) >= size:
            return 0
        coming = self._preparing or self._to_prepare.count(entry.runner)
        patience = PREPARING_SECONDS if coming else self._settings.max_wait_ms / 1000
        return entry.ready + patience - time.perf_counter()

    def _run(self, runner: Runner, batch: list[Entry]) -> None:
        batch = [entry for entry in batch if not entry.ticket.closed]
        if not batch:
            return
        started = time.perf_counter()
        for entry in batch:
            self._metrics.wait.observe(started - entry.since)
        self._metrics.batch.observe(len(batch))
        try:
            vectors = runner.run([entry.item for entry in batch])
            finite: Any = np.isfinite(vectors).all(axis=1)
        except Exception as error:
            for entry in batch:
                self._finish(entry, error)
            return
        finally:
            self._metrics.inference.observe(time.perf_counter() - started)
        for entry, vector, is_finite in zip(batch, vectors, finite, strict=True):
            self._finish(entry, vector if is_finite else _no_vector(runner))


def _is_remote(entry: Entry) -> bool:
    document = entry.document
    return not (is_text(document) or document.blob or document.tensor is not None) and (
        bool(document.uri) and not document.uri.startswith("data:")
    )


def _no_vector(runner: Runner) -> Exception:
    return FinetunerServerError(f"{runner.model_id} must give finite numbers. Got NaN or infinity. Check the artifact.")
