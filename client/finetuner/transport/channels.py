"""gRPC channels that a process keeps from one request to the next: opening one takes more CPU than a search.

gRPC survives a fork only with a variable of the environment that it reads at its import. If something else has imported
it without, each request opens a channel of its own and closes it. A child drops its parent's channels and opens others.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from ..exceptions import FlowUnreachable

SECURE = "grpcs"
FORKS = "GRPC_ENABLE_FORK_SUPPORT"
# As Jina's own client has them: a message has any size, and an operation of hours ends if the Flow's machine goes away.
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 9999),
    ("grpc.keepalive_timeout_ms", 4999),
    ("grpc.keepalive_permit_without_calls", True),
)

_lock = threading.Lock()
_idle: dict[str, Any] = {}  # host -> channel
_in_use = 0  # by threads of this process
_broken = False  # this process was forked while another thread used a channel


@contextmanager
def channel(host: str) -> Iterator[Any]:
    """Yield a channel to a Flow. It is kept for the next request unless the block raises an error.

    Args:
        host: 'grpc://HOST:PORT' or 'grpcs://HOST:PORT'.

    Raises:
        FlowUnreachable: this process was forked in the middle of a request of another thread.
    """
    global _in_use
    grpc, keep = load_grpc()
    if _broken:
        raise FlowUnreachable(
            f"gRPC must be idle when a process forks. A thread of the parent waited for {host} or another Flow. "
            "Start processes with multiprocessing's 'spawn', or log in to the http:// address of the Flow."
        )
    with _lock:
        opened = _idle.pop(host, None)
        _in_use += 1
    try:
        opened = opened or _opened(grpc, host)
        yield opened
    except BaseException:
        keep = False
        raise
    finally:
        with _lock:
            _in_use -= 1
            keep = keep and host not in _idle
            if keep and opened:
                _idle[host] = opened
        if opened and not keep:
            opened.close()


def _opened(grpc: Any, host: str) -> Any:
    parts = urlsplit(host)
    if parts.scheme == SECURE:
        return grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), OPTIONS)
    return grpc.insecure_channel(parts.netloc, OPTIONS)


@cache
def load_grpc() -> tuple[Any, bool]:
    """Import gRPC, before anything else of this package does. Return it, and whether it survives forks."""
    set_by_user = os.environ.get(FORKS)
    if "grpc" in sys.modules:
        return sys.modules["grpc"], (set_by_user or "").lower() in ("1", "y", "yes", "true")
    os.environ[FORKS] = "1"
    try:
        import grpc

        grpc.insecure_channel("127.0.0.1:1").close()  # reads the variable
    finally:
        if set_by_user is None:
            del os.environ[FORKS]  # a Flow that this process starts does without
        else:
            os.environ[FORKS] = set_by_user
    return grpc, True


def _forked() -> None:
    global _broken, _in_use
    _idle.clear()
    _broken, _in_use = _broken or _in_use > 0, 0
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forked)
