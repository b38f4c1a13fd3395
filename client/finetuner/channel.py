"""One gRPC channel that stays open between requests; jina.Client opens one for each, at some milliseconds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .wire import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from jina.types.request.data import DataRequest

# Routers forget connections that nobody uses, and then the first request would wait for minutes.
IDLE_SECONDS = 60.0
METHOD = "/jina.JinaSingleDataRequestRPC/process_single_data"


class Channel:
    """Sends requests to a Flow's gateway. Any number of threads may.

    Args:
        address: 'HOST:PORT'.
        tls: whether the gateway has a certificate.
    """

    def __init__(self, address: str, tls: bool) -> None:
        self._address = address
        self._tls = tls
        self._lock = threading.Lock()
        self._method: Any = None
        self._process = 0
        self._used_at = 0.0

    def ask(self, request: DataRequest, metadata: Sequence[tuple[str, str]]) -> DataRequest:
        """Return the answer to a request.

        Raises:
            grpc.RpcError: there is none. The next request opens another channel, since this one would wait for up to
                two minutes before it looks for the gateway again.
        """
        import grpc
        from jina.types.request.data import DataRequest

        try:
            # bytes, because gRPC copies what comes with an error, and Jina's messages cannot be copied
            return DataRequest(self._opened()(request, metadata=metadata))
        except grpc.RpcError:
            self._method = None
            raise

    def _opened(self) -> Any:
        import grpc
        from jina.proto.serializer import DataRequestProto

        with self._lock:
            now = time.monotonic()
            # a channel does not outlive a fork
            if self._method is None or self._process != os.getpid() or now - self._used_at > IDLE_SECONDS:
                options = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("receive", "send")]
                options.append(("grpc.use_local_subchannel_pool", 1))  # or it would be the old connection again
                credentials = grpc.ssl_channel_credentials() if self._tls else None
                channel = (
                    grpc.secure_channel(self._address, credentials, options)
                    if credentials
                    else grpc.insecure_channel(self._address, options)
                )
                self._method = channel.unary_unary(METHOD, DataRequestProto.SerializeToString)
                self._process = os.getpid()
            self._used_at = now
            return self._method
