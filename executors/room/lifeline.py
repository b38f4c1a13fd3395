"""No room outlives the Flow that it belongs to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """End this process with the one that started the Flow, also where that one is killed and can tell nobody.

    Left alone, Jina's gateway keeps its ports and a core busy, and rooms keep their locks. A room that was started
    by itself, as in Kubernetes, has no such parent, and nothing happens.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
