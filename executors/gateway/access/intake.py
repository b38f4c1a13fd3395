"""Closes gRPC connections that send far more than their admitted calls carry.

gRPC reads headers without end (CVE-2024-27316), and settings and resets, before any code of ours sees them: 24
connections without a token took both processors and 850 MB. The kernel counts the bytes of each connection. Those
beyond the messages that were read come out of a token bucket, and a connection that overdraws it is reset. Strangers,
connections without an admitted call, share one bucket: once it is empty, those that took much of it are reset.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grpc
from jina.logging.logger import JinaLogger

from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput

from .access import PEER
from .errors import abort
from .peers import Peer, peer_of, plain

# Of headers, resets, pings and refused calls, for each connection, and of what gRPC takes of calls that the event loop
# has not begun: 12.5 MB of 200 messages of 1 MiB that came at once.
BURST, BYTES_PER_SECOND = 16 * 2**20, 2**16
STRANGERS_PER_SECOND = 2**22  # refills the BURST that strangers share
SMALL = 2**20  # a stranger that has sent less is let alone
CALL = 2**14  # a call's headers, at most
FRAMES = 1.02  # a message with the heads of its frames, and those of TLS
POLL_SECONDS = 0.03
PAUSE = 20  # times the CPU time that a poll takes, at least, between two: a flood makes it wait for a processor
RECEIVED = struct.Struct("=128xQ")  # tcpi_bytes_received in Linux's struct tcp_info


@dataclass
class _Connection:
    received: int = 0
    left: float = BURST
    """Bytes that it may send beyond its calls. Below 0 while messages of open calls arrive."""
    stranger: bool = True
    """None of its calls was admitted."""
    overdrawn: bool = False
    """At the last poll."""

    @property
    def taken(self) -> float:
        """Bytes of its burst that it has sent."""
        return BURST - self.left


class Intake:
    """The gRPC connections of one port, and the calls that were admitted on them.

    Args:
        port: of the server, in this process.
        logger: gets a warning for each connection that is reset.
    """

    def __init__(self, port: int, logger: JinaLogger) -> None:
        self._port = port
        self._logger = logger
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._open: Counter[Peer] = Counter()
        self._carried: Counter[Peer] = Counter()
        self._ended: set[Peer] = set()
        self._connections: dict[int, _Connection] = {}
        self._gone = 0.0
        """Bytes that strangers sent whose connections are closed, less what was refilled since."""
        self._polled_at = time.monotonic()

    def start(self) -> None:
        """Poll until `stop`, in a thread: a flood holds up the event loop. Only Linux counts a connection's bytes."""
        if sys.platform == "linux":
            threading.Thread(target=self._watch, name="intake", daemon=True).start()

    def stop(self) -> None:
        """Poll no more."""
        self._over.set()

    def _watch(self) -> None:
        pause = POLL_SECONDS
        while not self._over.wait(pause):
            started = time.thread_time()
            self.poll()
            pause = max(POLL_SECONDS, PAUSE * (time.thread_time() - started))

    def read(self, peer: Peer, request: Any) -> None:
        """Take note of a message that was read.

        Args:
            request: Jina's, with the bytes that it came in.
        """
        with self._lock:
            self._carried[peer] += int(len(getattr(request, "buffer", None) or b"") * FRAMES) + CALL

    @contextmanager
    def call(self, peer: Peer) -> Iterator[None]:
        """Allow one message at a time that is not read yet, while a call that was admitted is open."""
        with self._lock:
            self._open[peer] += 1
            self._carried[peer] += CALL
        try:
            yield
        finally:
            with self._lock:
                self._open[peer] -= 1
                self._ended.add(peer)  # a part of a message may have arrived

    def poll(self) -> None:
        """Count the bytes of each connection, and reset those that have sent too many.

        A connection is reset once two polls have found it overdrawn, without a call or message between them.
        """
        now = time.monotonic()
        passed, self._polled_at = now - self._polled_at, now
        self._gone = max(0.0, self._gone - passed * STRANGERS_PER_SECOND)
        with self._lock:
            self._open = +self._open
            waiting, carried, ended = self._open.copy(), self._carried, self._ended
            self._carried, self._ended = Counter(), set()
        found: dict[int, _Connection] = {}
        strangers = sum(each.taken for each in self._connections.values() if each.stranger)
        most_of_stranger = BURST if self._gone + strangers <= BURST else SMALL
        for connection, inode, peer, received in self._sockets():
            own = found[inode] = self._connections.get(inode) or _Connection()
            own.left = min(own.left + passed * BYTES_PER_SECOND + carried[peer] - (received - own.received), BURST)
            own.received = received
            own.stranger = own.stranger and not carried[peer]
            if peer in ended:
                own.left = max(own.left, 0)
            overdrawn = own.left < -waiting[peer] * MAX_MESSAGE_BYTES or (own.stranger and own.taken > most_of_stranger)
            if overdrawn and own.overdrawn and not carried[peer]:
                self._logger.warning(
                    f"a gRPC connection must send messages. Got {received} bytes from {peer.address}, {own.taken:.0f} "
                    "more than its calls carry. It is closed."
                )
                _reset(connection)
                del found[inode]
            own.overdrawn = overdrawn
        closed = (each for inode, each in self._connections.items() if inode not in found)
        self._gone += sum(each.taken for each in closed if each.stranger)
        self._connections = found

    def _sockets(self) -> Iterator[tuple[socket.socket, int, Peer, int]]:
        """Yield each connection to the port, with its inode, its peer and its bytes received. It is a copy."""
        for number in [int(entry.name) for entry in os.scandir("/proc/self/fd")]:
            with suppress(OSError):  # it was closed meanwhile
                if not stat.S_ISSOCK(os.fstat(number).st_mode):
                    continue
                with socket.socket(fileno=os.dup(number)) as connection:
                    if connection.family not in (socket.AF_INET, socket.AF_INET6):
                        continue
                    if connection.getsockname()[1] != self._port:
                        continue
                    address, port = connection.getpeername()[:2]
                    inode = os.fstat(connection.fileno()).st_ino
                    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    received = RECEIVED.unpack_from(information)[0] if len(information) >= RECEIVED.size else 0
                    yield connection, inode, Peer(plain(address), port), received


def _reset(connection: socket.socket) -> None:
    """End a connection now. After a shutdown, the kernel would take what a peer sends until gRPC has closed it."""
    unspecified = struct.pack("=H14x", socket.AF_UNSPEC)
    ctypes.CDLL(None).connect(connection.fileno(), unspecified, len(unspecified))


class Counted:
    """The requests of a call, each reported to an intake once it is read.

    They are read from the call itself: gRPC's own iterator wraps each in a generator, for a tenth of a call's time.
    """

    def __init__(self, context: grpc.aio.ServicerContext, intake: Intake, peer: Peer) -> None:
        self._context, self._intake, self._peer = context, intake, peer
        self._ended = False

    def __aiter__(self) -> Counted:
        return self

    async def __anext__(self) -> Any:
        request = grpc.aio.EOF if self._ended else await self._context.read()
        if request is grpc.aio.EOF:
            self._ended = True
            raise StopAsyncIteration
        self._intake.read(self._peer, request)
        return request


def _named(context: grpc.aio.ServicerContext) -> Peer:
    """Return the peer of a call, and name it to all that answers the call."""
    PEER.set(context.peer())
    return peer_of(context.peer())


async def read_one(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
    """Return the only message of a call, once the call says that it is.

    gRPC counts a stream whose end nobody reads as open for as long as its connection: the 256th call that was answered
    before its end had arrived was the connection's last.
    """
    request = await anext(requests, None)
    if request is None or await anext(requests, None) is not None:
        got = "none" if request is None else "more"
        await abort(context, InvalidInput(f"A call of this method must send one message. Got {got}."))
    return request


@lru_cache(64)  # gRPC asks anew for each call
def counted(handler: grpc.RpcMethodHandler, intake: Intake) -> grpc.RpcMethodHandler:
    """Return a handler whose calls and messages an intake hears of.

    It takes a stream even where `handler` takes one message: gRPC would read that one before it names the peer.
    """

    async def answer_one(_: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
        peer = _named(context)
        with intake.call(peer):
            return await handler.unary_unary(await read_one(Counted(context, intake, peer), context), context)

    async def answer_all(_: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        peer = _named(context)
        with intake.call(peer):
            async for answer in handler.stream_stream(Counted(context, intake, peer), context):
                yield answer

    codec = handler.request_deserializer, handler.response_serializer
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(answer_all, *codec)
    return grpc.stream_unary_rpc_method_handler(answer_one, *codec)
