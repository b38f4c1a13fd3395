"""Ends a room with the Flow that it belongs to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """End this process when the process that started the Flow ends, even if that process is killed.

    Otherwise Jina's gateway would keep its ports and a busy core, and rooms would keep their locks. A room that was
    started alone, as in Kubernetes, has no such parent, and the call does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
