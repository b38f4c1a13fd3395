"""A lock that allows one process per index folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from finetuner.exceptions import InvalidInput


class FolderLock:
    """Locks a folder until `release`. The kernel releases the lock when the process dies.

    Args:
        folder: created if missing.

    Raises:
        InvalidInput: another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise InvalidInput(
                f"index folder must be open in one process only. Got {str(folder)!r}, which process {holder} "
                "has open. Stop that process, or give this one its own workspace. Run one indexer "
                "replica per workspace."
            ) from None
        # The process id is for the message above only. The kernel owns the lock, so a stale id does no harm.
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Release the lock. The file stays: removing it would race with the next process that opens it."""
        os.close(self._descriptor)
