"""Bounds the disk that uploads take: the bytes of each token, and the space that stays free.

The folder of a dataset or an artifact holds the name of the token that sent it, from its first part on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from finetuner.exceptions import InsufficientStorage
from finetuner.workspace.folder import DAMAGE, Workspace, write_atomically

OWNER = "owner.json"
NOT_OWNED = ("uploads", "names")
REMEMBERED = 10.0  # seconds that a count of bytes is used; uploads are added to it meanwhile
MEBIBYTE = 2**20


class UploadQuota:
    """Admits uploads before they are written.

    Args:
        workspace: holds datasets and artifacts, and unfinished uploads of both.
        most: bytes of one owner; 0 for no limit.
        least: bytes of the disk that stay free.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, workspace: Workspace, most: float, least: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workspace = workspace
        self._most = most
        self._least = least
        self._clock = clock
        self._lock = Lock()
        self._counted: dict[str, tuple[float, int]] = {}  # owner -> time, and bytes

    def require_free(self, size: int) -> None:
        """Refuse to write `size` bytes where too little would stay free.

        Raises:
            InsufficientStorage
        """
        free = shutil.disk_usage(self._workspace.root).free
        if free - size < self._least:
            raise InsufficientStorage(
                f"the workspace's disk must keep {_text(self._least)} free. Got an upload of {_text(size)}, and "
                f"{_text(free)} free. It is dropped. Delete datasets, or ask the Flow's owner to make room."
            )

    def admit(self, owner: str, size: int) -> None:
        """Admit `size` further bytes of an owner.

        Args:
            owner: name of a token; '' in a Flow without tokens, whose callers share one quota.
            size: bytes.

        Raises:
            InsufficientStorage: the disk would be too full, or the owner has used up its quota.
        """
        self.require_free(size)
        if not self._most:
            return
        with self._lock:
            counted, used = self._counted.get(owner, (0.0, 0))
            if owner not in self._counted or self._clock() > counted + REMEMBERED or used + size > self._most:
                counted, used = self._clock(), self.used(owner)
            self._counted[owner] = counted, used + size
            if used + size <= self._most:
                return
            self._counted[owner] = counted, used
        raise InsufficientStorage(
            f"the uploads of a token may take {_text(self._most)}. Got {_text(size)} beside the {_text(used)} of "
            f"{owner!r:.80}. This one is dropped. Delete datasets, or ask the Flow's owner to raise upload_quota_gb."
        )

    def used(self, owner: str) -> int:
        """Return the bytes of an owner's datasets, artifacts and unfinished uploads."""
        roots = (self._workspace.datasets, self._workspace.artifacts)
        folders = [folder for root in roots for pattern in ("*", "uploads/*") for folder in root.glob(pattern)]
        return sum(_size(folder) for folder in folders if folder.name not in NOT_OWNED and owner_of(folder) == owner)


def mark_owner(folder: Path, owner: str) -> None:
    """Note in the folder of an upload, which may be new, who began it. In a Flow without tokens, nobody has a name."""
    if owner and not (folder / OWNER).exists():
        write_atomically(folder / OWNER, json.dumps({"owner": owner}).encode())


def owner_of(folder: Path) -> str:
    """Return who began an upload; '' if its folder does not say so."""
    try:
        return str(json.loads((folder / OWNER).read_bytes())["owner"])
    except (*DAMAGE, OSError):  # also one that is removed meanwhile
        return ""


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:  # a part that is being replaced
            continue
    return total


def _text(size: float) -> str:
    return f"{size / MEBIBYTE:,.0f} MiB"
