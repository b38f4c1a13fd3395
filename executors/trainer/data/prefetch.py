"""Prepares the next batches in a thread while the device computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
END = object()
POLL_SECONDS = 0.1


def prefetched(items: Iterable[Item], depth: int = 2) -> Iterator[Item]:
    """Yield the same items in the same order, made by a thread that is up to `depth` items ahead.

    The thread ends with its consumer: close the iterator, or leave its `for` loop and drop it.

    Args:
        items: iterable whose items take time to make.
        depth: most items that wait, at least 1.

    Raises:
        BaseException: the error of `items`, after the items before it.
    """
    made: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: object, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                made.put((item, error), timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(END)
        except BaseException as error:  # raised again in the consumer
            put(END, error)

    thread = threading.Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is END:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
