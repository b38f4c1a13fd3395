"""One process per index folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from finetuner.exceptions import InvalidInput


class FolderLock:
    """Holds a folder for this object alone until `release`; the kernel lets go when the process dies.

    Args:
        folder: made where it is not there yet.

    Raises:
        InvalidInput: someone else holds the folder.
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
                "has open. Stop that process, or give this one a workspace of its own; run one indexer "
                "replica per workspace."
            ) from None
        # Who holds it, for the sentence above. The lock itself is the kernel's: a stale number does no harm.
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let others have the folder. The file stays: removing it would race with whoever opens it next."""
        os.close(self._descriptor)
