"""Downloads images at addresses: several at a time, with retries, and each only once."""

from __future__ import annotations

import random
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from copy import copy
from email.message import Message
from queue import Queue
from urllib.parse import urlsplit

from ...documents.image_files import HEAD_BYTES, is_image
from ...documents.uris import USER_AGENT, fetch
from ...exceptions import ForbiddenUri, InvalidDocument, InvalidInput, UndecodableImage, UnreachableUri
from .cache import LinkCache
from .options import LinkOptions

OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
"""The directives that img2dataset respects: img2dataset 1.47, downloader.py."""
RETRIED = frozenset({0, 408, 425, 429, 500, 502, 503, 504})
"""Statuses after which an attempt may succeed; 0 is no answer."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
REMEMBERED = 2**16

_Queue = Queue[tuple[str, Future[None]] | None]


class Downloads:
    """Images at addresses. Threads start with the first call of `start`, and end with this object.

    Args:
        options: limits, headers and cache.
    """

    def __init__(self, options: LinkOptions) -> None:
        self._options = options
        self._worker: _Worker | None = None
        self._queue: _Queue = Queue()
        self._threads = 0
        self._begun: dict[str, Future[None]] = {}
        self._failed: OrderedDict[str, InvalidDocument] = OrderedDict()

    @property
    def ahead(self) -> int:
        """Number of addresses that are worth starting before the first is read."""
        return 4 * self._options.concurrency

    def start(self, address: str) -> None:
        """Begin to download an image in the background, unless it is kept, begun, not allowed, or has failed."""
        if not self._options.allowed:
            return
        worker = self._ready()
        if address in self._begun or address in self._failed or worker.cache.holds(address):
            return
        if self._threads < self._options.concurrency:
            # Not a ThreadPoolExecutor: the end of the interpreter waits for the downloads that it has begun.
            threading.Thread(target=_work, args=(self._queue, worker), name="link", daemon=True).start()
            self._threads += 1
        self._begun[address] = Future()
        self._queue.put((address, self._begun[address]))

    def read(self, address: str) -> bytes:
        """Return the file at an address, from the cache if it is kept. What has failed is not tried again.

        Raises:
            UnreachableUri: no good answer in any attempt.
            ForbiddenUri: an address that is not allowed, or an owner who does not want it to be used.
            UndecodableImage: an answer that does not begin like an image, such as a page.
            ImageTooLarge: an answer above `images.MAX_BYTES`.
        """
        if not self._options.allowed:
            raise ForbiddenUri(
                f"image must lie in the file itself. Got the address {address[:80]!r}, which nobody fetches here. Pack "
                f"the images into a zip with the table, or push the data from your own machine."
            )
        if address in self._failed:
            raise copy(self._failed[address])
        worker, begun = self._ready(), self._begun.pop(address, None)
        try:
            if begun is not None:
                begun.result()
            elif not worker.cache.holds(address):
                worker.download(address)
        except InvalidDocument as error:
            self._failed[address] = copy(error)  # without the frames of its traceback, which hold memory
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)
            raise
        content = worker.cache.read(address)
        if content is None:
            raise UnreachableUri(
                f"link must stay in the cache until it is read. Got none of {address!r:.60}. Try again."
            )
        return content

    def _ready(self) -> _Worker:
        """Return the worker, with a cache from the first call on."""
        if self._worker is None:
            try:
                self._worker = _Worker(self._options, LinkCache(self._options.cache))
            except OSError as error:
                raise InvalidInput(
                    f"LinkOptions.cache must be a folder that can be written. Got {self._options.cache!r} "
                    f"({error.strerror}). Choose another."
                ) from error
            weakref.finalize(self, _end, self._queue, self._worker, self._options.concurrency)
        return self._worker


class _Worker:
    """Downloads single images into the cache."""

    def __init__(self, options: LinkOptions, cache: LinkCache) -> None:
        self.cache = cache
        self.ended = threading.Event()
        self._options = options
        self._hosts = _Hosts(options.per_host)
        agent = next((value for name, value in options.headers.items() if name.lower() == "user-agent"), USER_AGENT)
        self._agent = agent.partition("/")[0].strip().lower()

    def download(self, address: str) -> None:
        """Download an image in several attempts."""
        for attempt in range(self._options.retries + 1):
            try:
                with self._hosts.turn(address):
                    content = fetch(
                        address,
                        private=self._options.private,
                        seconds=self._options.timeout,
                        headers=self._options.headers,
                        check=self._check_headers,
                    )
                break
            except UnreachableUri as error:
                if attempt == self._options.retries or error.answer not in RETRIED or self.ended.is_set():
                    raise
                pause = max(error.wait, FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))
                self.ended.wait(min(pause, LONGEST_PAUSE))
        if not is_image(content[:HEAD_BYTES]):
            raise UndecodableImage(
                f"link must lead to an image. Got {len(content)} bytes that begin with {content[:16]!r}. Correct it."
            )
        try:
            self.cache.write(address, content)
        except OSError as error:
            raise InvalidInput(
                f"downloaded images must fit into {str(self.cache.folder)!r}. Got an error: {error.strerror}. Free some"
                f" space, or set LinkOptions(cache=...)."
            ) from error

    def _check_headers(self, headers: Message) -> None:
        """Refuse an answer whose owner does not want it to be used for training."""
        for value in headers.get_all("X-Robots-Tag", []) if self._options.opt_out else ():
            agent, colon, directives = str(value).lower().rpartition(":")
            found = OPT_OUT & {directive.strip() for directive in directives.split(",")}
            if found and (not colon or agent.strip() == self._agent):
                raise ForbiddenUri(
                    f"link must not have opted out. Got X-Robots-Tag {min(found)!r}. Leave it out, or set "
                    f"LinkOptions(opt_out=False)."
                )


def _work(queue: _Queue, worker: _Worker) -> None:
    """Download what a queue has, up to the None at its end. The exceptions go to the reader."""
    while (item := queue.get()) is not None:
        address, future = item
        try:
            if not worker.ended.is_set():
                worker.download(address)
            future.set_result(None)
        except BaseException as error:
            future.set_exception(error)


def _end(queue: _Queue, worker: _Worker, threads: int) -> None:
    worker.ended.set()
    for _ in range(threads):
        queue.put(None)


class _Hosts:
    """The number of downloads from each host, kept at a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, address: str) -> Iterator[None]:
        """Wait for a place among the downloads from the address's host, and hold it."""
        try:
            host = urlsplit(address).netloc.lower()
        except ValueError:  # refused by `fetch`
            host = ""
        with self._changed:
            self._changed.wait_for(lambda: self._running[host] < self._limit)
            self._running[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]
                self._changed.notify_all()
