"""Caches decoded images on disk for all runs. A file is complete or absent, and the total size is bounded.

<name>.npy     pixels, (images, 3, height, width) uint8; modified when it was last used
<name>.json    metadata of the images, and the SHA-256 of both
.<hex>.npy     unfinished file, locked by its writer
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from finetuner.exceptions import FinetunerError
from finetuner.workspace.folder import write_atomically

COPY_BYTES = 2**24
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger("finetuner")


class ImageCache:
    """A folder of files of decoded images, which processes may share.

    Args:
        folder: created if missing.
        limit_bytes: of all files together. A larger file serves its own run alone; 0 keeps none.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit = limit_bytes

    def find(self, name: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Return a file's pixels, memory-mapped, and its metadata. None if it is missing or damaged."""
        path = self.path(name)
        try:
            described = json.loads(path.with_suffix(".json").read_bytes())
            header = _header(described["shape"])
            with open(path, "rb") as file:
                if file.read(len(header)) != header:
                    raise ValueError("another shape")
                digest = hashlib.file_digest(file, "sha256")
                digest.update(json.dumps(described["about"]).encode())
                if digest.hexdigest() != described["sha256"]:
                    raise ValueError("another content")
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            os.utime(path)
            return pixels, dict(described["about"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.warning("Decoded images in %s are damaged (%s): the images are decoded again", path, error)
            return None

    def new(self, name: str, shape: tuple[int, ...]) -> ImageFile:
        """Return a new file, which `find` returns once it is finished. Remove unfinished files of killed runs.

        Args:
            name: letters, digits and '-'. A file of that name is replaced.
            shape: of one image.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(".*"):
            with suppress(OSError), open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                path.unlink()
        return ImageFile(self, name, shape)

    def path(self, name: str) -> Path:
        """Return the path of a file's pixels."""
        return self.folder / f"{name}.npy"

    def free_space(self, size: int, more: int) -> bool:
        """Remove the least recently used files until a file fits.

        Args:
            size: of the file now, in bytes.
            more: bytes to add to it.

        Returns:
            Whether it fits. If it is larger than the limit itself, the others stay.
        """
        if size + more > self._limit:
            return False
        while sum(used for _, used, _ in self._entries("*")) + more > self._limit:
            if not self.evict():
                return False
        return True

    def evict(self) -> bool:
        """Remove the least recently used file, even while it is mapped. Return whether one existed."""
        entries = self._entries("[!.]*.npy")
        if not entries:
            return False
        _, size, path = min(entries)
        log.info("Removing the least recently used decoded images, %.2f GB: %s", size / 1e9, path.name)
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return True

    def _entries(self, pattern: str) -> list[tuple[int, int, Path]]:
        """Return modification time, bytes and path of each file."""
        found = []
        for path in self.folder.glob(pattern):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        return found


class ImageFile:
    """A file that grows by images, with one writer. The end of its `with` block removes an unfinished file.

    Args:
        cache: that receives it.
        name: see `ImageCache.new`.
        shape: of one image.
    """

    def __init__(self, cache: ImageCache, name: str, shape: tuple[int, ...]) -> None:
        self._cache = cache
        self._path = cache.path(name)
        self._shape = shape
        self._count = 0
        self._digest = hashlib.sha256()
        self._kept, self._moved = True, False
        self._temporary = cache.folder / f".{uuid.uuid4().hex}.npy"
        self._file: IO[bytes] = open(self._temporary, "w+b", buffering=0)  # noqa: SIM115  # closed in __exit__
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._size = 0
        self._write(_header((0, *shape)))

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.unlink(missing_ok=True)
        self._file.close()

    def add(self, pixels: np.ndarray) -> None:
        """Write one more image.

        Args:
            pixels: of the file's shape, uint8.

        Raises:
            FinetunerError: no space left on disk, in the cache or for temporary files.
        """
        assert pixels.shape == self._shape, pixels.shape
        assert pixels.dtype == np.uint8, pixels.dtype
        content = pixels.tobytes()
        self._digest.update(content)
        self._write(content)
        self._count += 1

    def finish(self, about: dict[str, Any]) -> np.ndarray:
        """Give the file its final name, if the cache keeps it.

        Args:
            about: metadata, as JSON values.

        Returns:
            (images, ...) uint8, memory-mapped.
        """
        shape = (self._count, *self._shape)
        if not self._count:
            return np.empty(shape, dtype=np.uint8)  # an empty file cannot be mapped
        header = _header(shape)
        os.pwrite(self._file.fileno(), header, 0)
        if self._kept:
            try:
                os.fsync(self._file.fileno())
                os.replace(self._temporary, self._path)
                self._digest.update(json.dumps(about).encode())
                described = {"shape": shape, "sha256": self._digest.hexdigest(), "about": about}
                write_atomically(self._path.with_suffix(".json"), json.dumps(described).encode())
            except OSError as error:  # the run continues with the open file
                self._do_not_keep(str(error))
        return np.memmap(self._file, dtype=np.uint8, mode="r", offset=len(header), shape=shape)

    def _write(self, content: bytes) -> None:
        if self._kept and not self._cache.free_space(self._size, len(content)):
            self._do_not_keep("they are larger than the limit image_cache_gb")
        self._size += len(content)
        self._put(content)

    def _put(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(self._file.fileno(), rest) :]
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                if not self._cache.evict():
                    self._move()

    def _move(self) -> None:
        """Continue in the system's folder for temporary files.

        Raises:
            FinetunerError: it is full too.
        """
        if self._moved:
            raise FinetunerError(
                f"decoded images must fit on disk. Got more than {self._size / 1e9:.2f} GB, and no space left "
                f"in {self._cache.folder} and {tempfile.gettempdir()}. Free some, or choose a smaller dataset."
            )
        self._moved = True
        if self._kept:
            self._do_not_keep("no space left on the disk of the workspace")
        full, self._file = self._file, tempfile.TemporaryFile()  # noqa: SIM115
        with full:
            full.seek(0)
            while part := full.read(COPY_BYTES):
                self._put(part)

    def _do_not_keep(self, reason: str) -> None:
        log.warning("The decoded images serve this run alone: %s", reason)
        self._kept = False
        self._temporary.unlink(missing_ok=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file of uint8. Its length is the same for any number of images."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
    )
    return buffer.getvalue()
