"""Unpacks zip and tar files into a temporary folder: files alone, below it, and no more than their size allows."""

from __future__ import annotations

import errno
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ...exceptions import InvalidInput
from .tar_file import BoundedHeader

if TYPE_CHECKING:
    from docarray import Document

MAX_MEMBERS = 1_000_000
MAX_RATIO = 100
FREE_BYTES = 2**30
"""Content that an archive of any size may have, whatever MAX_RATIO says: tables of short rows compress well."""
MAX_DEPTH = 64
DRIVE = re.compile(r"[A-Za-z]:")
BLOCK = 2**20
LEFT_OUT = "__MACOSX"  # the attributes that macOS packs beside the files
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tarfile.TarError, EOFError, KeyError, ValueError, struct.error),
    OverflowError,  # of a size in a header
    RuntimeError,  # its subclass NotImplementedError is an unknown compression
    OSError,
)


def archive_documents(
    path: str, read: Callable[[Path], Iterator[Document]], most: int | None = None
) -> Iterator[Document]:
    """Return the documents of an archive's content. Its files are removed after the last one, or with the iterator.

    Args:
        path: of the archive.
        read: returns the documents of a folder; called at once.
        most: bytes of its content; None for no limit but those of `Unpacked`.

    Raises:
        InvalidInput: see `Unpacked`. Errors of `read` pass through.
    """
    unpacked = Unpacked(path, most)
    try:
        return _until_read(unpacked, read(unpacked.folder))
    except BaseException:
        unpacked.remove()
        raise


def _until_read(unpacked: Unpacked, documents: Iterator[Document]) -> Iterator[Document]:
    with unpacked:
        yield from documents


class Unpacked:
    """The content of an archive, in a temporary folder that is removed with this object, or at the end of `with`.

    Args:
        path: of a zip or a tar file, which may be compressed.
        most: bytes of its content; None for no further limit.

    Raises:
        InvalidInput: a damaged or encrypted archive; a member that is no file or folder, has the name of another, or a
            name that leads out; more than MAX_MEMBERS; content of more than FREE_BYTES and MAX_RATIO times the size of
            the archive; a full disk.
    """

    def __init__(self, path: str, most: int | None = None) -> None:
        self._path = path
        above = tempfile.mkdtemp(prefix="finetuner-")
        self.remove = weakref.finalize(self, shutil.rmtree, above, ignore_errors=True)
        self.folder = Path(above) / Path(path).name  # errors about its files then say where they come from
        self.folder.mkdir()
        by_ratio = max(FREE_BYTES, MAX_RATIO * os.stat(path).st_size)  # noqa: PTH116
        self._most = self._left = by_ratio if most is None else min(by_ratio, most)
        self._count = 0
        try:
            self._unpack()
        except InvalidInput:  # a ValueError, too, but no damage
            self.remove()
            raise
        except DAMAGE as error:
            self.remove()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InvalidInput(
                    f"archive must fit on the disk. Got {path!r}, and no space left in {tempfile.gettempdir()!r}. Set "
                    f"$TMPDIR to a larger one."
                ) from error
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise InvalidInput(f"archive must be whole. Got {path!r} ({reason}). Pack it again.") from error
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _unpack(self) -> None:
        if self._path.lower().endswith(".zip"):
            self._unpack_zip()
        else:
            self._unpack_tar()

    def _unpack_zip(self) -> None:
        with zipfile.ZipFile(self._path) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > self._left:
                raise self._too_much()
            if declared > (free := shutil.disk_usage(self.folder).free):
                raise OSError(errno.ENOSPC, f"{declared} bytes, {free} free")
            for member in members:
                kind = stat.S_IFMT(member.external_attr >> 16)
                self._check_member(member.filename, kind not in (0, stat.S_IFREG, stat.S_IFDIR))
                if member.flag_bits & 1:
                    raise InvalidInput(
                        f"archive must not be encrypted. Got {self._path!r}. Unpack it, and pass the folder."
                    )
                if not member.is_dir():
                    with archive.open(member) as source:
                        self._write(member.filename, source)

    def _unpack_tar(self) -> None:
        with tarfile.open(self._path, "r|*", tarinfo=BoundedHeader) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the archive
                self._check_member(member.name, not (member.isfile() or member.isdir()))
                if member.isfile() and (source := archive.extractfile(member)) is not None:
                    self._write(member.name, source)

    def _check_member(self, name: str, special: bool) -> None:
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise InvalidInput(
                f"archive must have at most {MAX_MEMBERS} members. Got more in {self._path!r}. Split it."
            )
        parts = name.replace("\\", "/").split("/")
        if special:
            raise self._refused("files and folders alone", f"a link or a device, {name!r:.120}")
        if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or DRIVE.match(name) or len(parts) > MAX_DEPTH:
            raise self._refused("names that stay below its folder", f"{name!r:.120}")

    def _write(self, name: str, source: IO[bytes]) -> None:
        """Write one file, whose name `_check_member` has checked."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or parts[0] == LEFT_OUT:
            return
        path = self.folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = open(path, "xb")  # noqa: SIM115
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refused("each name once", f"{name!r:.120} twice") from error
        with target:
            while block := source.read(BLOCK):
                self._left -= len(block)
                if self._left < 0:
                    raise self._too_much()
                target.write(block)

    def _refused(self, expected: str, got: str) -> InvalidInput:
        return InvalidInput(
            f"archive must have {expected}. Got {got} in {self._path!r}. Pack it again, or unpack it yourself."
        )

    def _too_much(self) -> InvalidInput:
        return InvalidInput(
            f"archive must have at most {self._most} bytes: {MAX_RATIO} times its size or {FREE_BYTES}, and what the "
            f"disk holds. Got more in {self._path!r}. Unpack it, and pass the folder."
        )
