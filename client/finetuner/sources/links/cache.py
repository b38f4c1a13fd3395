"""Keeps downloaded images on disk by their address, so that an interrupted reading resumes; equal ones only once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path

AUTO = "auto"
KEPT_DAYS = 30
FOLDER = "links"
CONTENTS = "contents"


class LinkCache:
    """A folder of images, `<2 hex digits>/<SHA-256 of the address>`, which processes may share.

    A file is complete or absent. Addresses of equal images are hard links to one file, which also has the name
    `contents/<2 hex digits>/<SHA-256 of the image>`; where the disk has no hard links, each has its own file. Files
    that were written more than KEPT_DAYS ago are removed at the start.

    Args:
        folder: created if missing; 'auto' is in the user's cache folder; None is a temporary one that is removed with
            this object.
    """

    def __init__(self, folder: str | None) -> None:
        if folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="finetuner-"))
            self.remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            return
        if folder == AUTO:
            from platformdirs import user_cache_path

            self.folder = user_cache_path("open-finetuner", appauthor=False) / FOLDER
        else:
            self.folder = Path(folder).expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_old()

    def read(self, address: str) -> bytes | None:
        """Return the image of an address; None if it is not kept."""
        with suppress(OSError):
            return self._path(address).read_bytes()
        return None

    def holds(self, address: str) -> bool:
        """Return whether the image of an address is kept."""
        return os.path.isfile(self._path(address))  # noqa: PTH113 (False, never raises)

    def write(self, address: str, content: bytes) -> None:
        """Keep the image of an address.

        Raises:
            OSError: a full disk.
        """
        path, same = self._path(address), self._path_of(content)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            if not _linked(same, temporary, len(content)):
                temporary.write_bytes(content)
                same.parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # a disk without hard links, or another process was faster
                    os.link(temporary, same)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, address: str) -> Path:
        name = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / name

    def _path_of(self, content: bytes) -> Path:
        name = hashlib.sha256(content).hexdigest()
        return self.folder / CONTENTS / name[:2] / name

    def _remove_old(self) -> None:
        """Remove old images, and what killed processes have left."""
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        for pattern in ("[0-9a-f][0-9a-f]/*", f"{CONTENTS}/[0-9a-f][0-9a-f]/*"):
            for path in self.folder.glob(pattern):
                with suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()


def _linked(same: Path, path: Path, size: int) -> bool:
    """Give a kept image a further name, and return whether it is there, whole, and takes one."""
    try:
        if same.stat().st_size != size:  # a crash of the machine has cut it
            same.unlink()
            return False
        os.utime(same)  # the names of one file have one age
        os.link(same, path)
    except OSError:
        return False
    return True
