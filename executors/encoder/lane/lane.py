"""Encodes documents of many requests: bounded queue -> decoding threads -> micro-batches -> one inference thread.

Texts, and JPEGs that a GPU decodes, are prepared many at once by one thread. On a CPU that is the inference thread.
Requests take turns, document by document, at both stages, so a single image overtakes a request of hundreds. A batch
never mixes models. Texts are sorted by length, since the longest text sets the cost of a batch; much shorter requests
overtake between batches that are sorted together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from finetuner.documents.images import UriReader
from finetuner.exceptions import FinetunerServerError, ResourceExhausted

from .cache import Key, VectorCache, key_of
from .metrics import LaneMetrics
from .runner import attempt
from .settings import LaneSettings
from .ticket import Entry, Ticket, Turns, sorted_batches

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
        self._fetchable, self._gatherable, self._preparable, self._batchable = (Condition(self._lock) for _ in range(4))
        self._to_fetch, self._to_gather, self._to_prepare, self._ready = Turns(), Turns(), Turns(), Turns()
        self._preparing = 0
        self._waiting = 0
        self._closed = False
        metrics.waiting.set_function(lambda: self._waiting)
        works = [self._infer, self._gather, *[self._prepare] * settings.decoders, *[self._fetch] * settings.fetchers]
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
            for condition in (self._fetchable, self._gatherable, self._preparable, self._batchable):
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
                elif entry.is_remote:
                    self._to_fetch.put(entry)
                else:
                    self._to_prepare_or_gather(entry)
            if not beside:
                self._batchable.notify()
            self._fetchable.notify(len(self._to_fetch))
            self._gatherable.notify(len(self._to_gather))
            self._preparable.notify(len(self._to_prepare))

    def _to_prepare_or_gather(self, entry: Entry) -> None:
        """Queue an entry whose content is here. The caller holds the lock, and wakes the threads."""
        gathers = entry.runner.gathers(entry.document, entry.blob)
        (self._to_gather if gathers else self._to_prepare).put(entry)

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
            for turns in (self._to_fetch, self._to_gather, self._to_prepare, self._ready):
                turns.drop(ticket)
            ticket.closed = True
            self._waiting -= ticket.left
            self._wake_preparing()

    def _wake_preparing(self) -> None:
        """Let the preparing threads look whether there is room for more ready entries. The caller holds the lock.

        Threads without an entry stay asleep: to wake them for each batch of texts took as long as a short text's pass.
        """
        if len(self._to_gather):
            self._gatherable.notify_all()
        if len(self._to_prepare):
            self._preparable.notify_all()

    def _finish(self, entries: Sequence[Entry], results: Iterable[np.ndarray | Exception]) -> None:
        """Store the results of documents. The last one of a request completes it."""
        complete: list[Ticket] = []
        with self._lock:
            for entry, result in zip(entries, results, strict=True):
                ticket = entry.ticket
                if ticket.closed:
                    continue
                ticket.results[entry.position] = result
                ticket.left -= 1
                self._waiting -= 1
                if not ticket.left:
                    complete.append(ticket)
        for ticket in complete:
            ticket.complete()

    def _fetch(self) -> None:
        """Fetch images until the lane is closed."""
        while True:
            with self._lock:
                self._fetchable.wait_for(lambda: self._closed or len(self._to_fetch))
                if self._closed:
                    return
                (entry,) = self._to_fetch.take(1)
            with self._metrics.fetch.time():
                found = attempt(self._read_uri, entry.document.uri)
            if isinstance(found, Exception):
                self._finish([entry], [found])
                continue
            entry.blob = found
            with self._lock:
                if not entry.ticket.closed:
                    self._to_prepare_or_gather(entry)
                    self._gatherable.notify()
                    self._preparable.notify()

    def _gather(self) -> None:
        """Prepare documents many at once until the lane is closed."""
        while entries := self._next_to_prepare(self._gatherable, self._to_gather, self._settings.batch_size):
            self._prepare_all(entries)
            self._prepared(entries)

    def _prepare(self) -> None:
        """Turn documents into pixels, each by itself, until the lane is closed."""
        while entries := self._next_to_prepare(self._preparable, self._to_prepare, 1):
            (entry,) = entries
            with self._metrics.decode.time():
                entry.item = attempt(entry.runner.prepare, entry.document, lambda _, blob=entry.blob: blob or b"")
            self._prepared(entries)

    def _next_to_prepare(self, condition: Condition, turns: Turns, most: int) -> list[Entry]:
        """Wait for entries, while few are ready. Return [] once the lane is closed."""
        ahead = READY_BATCHES * self._settings.batch_size
        with self._lock:
            condition.wait_for(lambda: self._closed or (len(turns) and len(self._ready) + self._preparing < ahead))
            entries = [] if self._closed else turns.take(most)
            self._preparing += len(entries)
        return entries

    def _prepared(self, entries: list[Entry]) -> None:
        """Hand prepared entries on to the inference thread, and those that only `_prepare` can prepare to it."""
        remaining = self._without_refused(entries)
        now = time.perf_counter()
        with self._lock:
            self._preparing -= len(entries)
            for entry in remaining:
                if not entry.ticket.closed:
                    entry.ready = now
                    (self._to_prepare if entry.item is None else self._ready).put(entry)
            self._preparable.notify(len(self._to_prepare))
            self._batchable.notify()

    def _prepare_all(self, entries: list[Entry]) -> None:
        """Give each entry of one runner its item, or its error, or None where `_prepare` shall do it."""
        runner = entries[0].runner
        with self._metrics.decode.time():
            items = attempt(runner.prepare_all, [entry.document for entry in entries], [one.blob for one in entries])
        for entry, item in zip(entries, [items] * len(entries) if isinstance(items, Exception) else items, strict=True):
            entry.item = item

    def _without_refused(self, entries: list[Entry]) -> list[Entry]:
        """Answer the documents that could not be prepared. Return the others, their tokens counted where asked for."""
        refused = [entry for entry in entries if isinstance(entry.item, Exception)]
        if refused:
            self._finish(refused, [entry.item for entry in refused])
            entries = [entry for entry in entries if not isinstance(entry.item, Exception)]
        counted = [entry for entry in entries if entry.ticket.tokens is not None]
        if counted and counted[0].runner.reads_texts:
            for entry, count in zip(counted, counted[0].runner.counts([one.item for one in counted]), strict=True):
                entry.ticket.tokens[entry.position] = count  # type: ignore[index]
        return entries

    def _infer(self) -> None:
        """Run batches until the lane is closed."""
        while entries := self._next_entries():
            runner = entries[0].runner
            for number, batch in enumerate(sorted_batches(self._made_ready(entries), self._settings.batch_size)):
                if number:
                    self._run(runner, self._made_ready(self._overtaking(runner, batch)))
                self._run(runner, batch)

    def _made_ready(self, entries: list[Entry]) -> list[Entry]:
        """Prepare the entries of a runner that prepares nothing beside. Return those that are prepared."""
        if not entries or entries[0].runner.prepares_beside:
            return entries
        self._prepare_all(entries)
        return self._without_refused(entries)

    def _overtaking(self, runner: Runner, batch: list[Entry]) -> list[Entry]:
        """Remove and return the entries of requests much shorter than those of a batch, which have come since."""
        shorter = min(entry.ticket.left for entry in batch) // MUCH_SHORTER
        with self._lock:
            return self._ready.take_shorter(runner, shorter, self._settings.batch_size)

    def _next_entries(self) -> list[Entry]:
        """Wait for a batch, full or partial, or for several batches of texts. Return [] once the lane is closed."""
        size = self._settings.batch_size
        with self._lock:
            while not self._closed:
                seconds = self._seconds_to_wait(size)
                if seconds is not None and seconds <= 0:
                    most = size * (SORTED_BATCHES if self._ready.next.runner.reads_texts else 1)
                    entries = self._ready.take(most)
                    self._wake_preparing()
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
        coming = self._preparing or any(turns.count(entry.runner) for turns in (self._to_gather, self._to_prepare))
        patience = PREPARING_SECONDS if coming else self._settings.max_wait_ms / 1000
        return entry.ready + patience - time.perf_counter()

    def _run(self, runner: Runner, batch: list[Entry]) -> None:
        if not (batch := [entry for entry in batch if not entry.ticket.closed]):
            return
        started = time.perf_counter()
        for since in {entry.ticket: entry.since for entry in batch}.values():
            self._metrics.wait.observe(started - since)
        self._metrics.batch.observe(len(batch))
        try:
            vectors = runner.run([entry.item for entry in batch])
            finite: Any = np.isfinite(vectors).all(axis=1)
        except Exception as error:
            self._finish(batch, [error] * len(batch))
            return
        finally:
            self._metrics.inference.observe(time.perf_counter() - started)
        rows = zip(vectors, finite, strict=True)
        self._finish(batch, [vector if is_finite else _no_vector(runner) for vector, is_finite in rows])


def _no_vector(runner: Runner) -> Exception:
    return FinetunerServerError(f"{runner.model_id} must give finite numbers. Got NaN or infinity. Check the artifact.")
