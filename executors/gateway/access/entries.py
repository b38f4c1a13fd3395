"""Unanswered requests of one gRPC stream, whose answers may come in another order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from jina.types.request.data import DataRequest

from .access import Entry


class Entries:
    """Entries by request id. A caller may use an id twice, or send none."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, deque[Entry]] = defaultdict(deque)

    def add(self, request: DataRequest, entry: Entry | None) -> None:
        """Keep an entry until its request is answered."""
        if entry is not None:
            self._waiting[request.proto_with_data.header.request_id].append(entry)

    def close(self, response: DataRequest, status: Callable[[], int]) -> None:
        """Close the entry of a response. A response without a known id leaves its entry to `close_left`."""
        waiting = self._waiting.get(response.proto_with_data.header.request_id)
        if waiting:
            waiting.popleft().close(status)

    def close_left(self) -> None:
        """Close the entries without an answer, at the end of the stream."""
        for waiting in self._waiting.values():
            for entry in waiting:
                entry.close(lambda: 500)
        self._waiting.clear()
