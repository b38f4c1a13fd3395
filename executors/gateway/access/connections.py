"""Bounds HTTP connections: how many there are, and how long the head of a request may take."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"


class BoundedConnection(H11Protocol):
    """A connection of uvicorn's that is closed if a request's head takes more than HEAD_SECONDS.

    uvicorn itself waits for ever. It closes a connection that stays silent after an answer.
    """

    most: ClassVar[int]
    """Connections at the same time. One address has half of them."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first head, or refuse one connection too many."""
        super().connection_made(transport)
        own = sum(each.client is not None and each.client[:1] == (self.client or ())[:1] for each in self.connections)
        if len(self.connections) > self.most or own > max(1, self.most // 2):
            self.connections.discard(self)
            transport.write(FULL)
            transport.close()
            return
        self._start()

    def data_received(self, data: bytes) -> None:
        """Read on; the time of a head starts with its first byte."""
        if self.transport.is_closing():
            return
        if self._timer is None and self._waits:
            self._start()
        super().data_received(data)
        if not self._waits:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop()
        super().connection_lost(exc)

    @property
    def _waits(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _start(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bounded_connections(most: int) -> type[BoundedConnection]:
    """Return the class of the connections of one server.

    Args:
        most: connections at the same time.
    """
    settings: dict[str, Any] = {"most": most}
    return type("Connection", (BoundedConnection,), settings)
