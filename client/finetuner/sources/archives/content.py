"""Finds the data in an unpacked archive, and tells a tar file of such data from a shard of samples."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from ...contract import file_endings
from ...exceptions import InvalidInput
from ..folders.metadata import METADATA
from ..hugging_face.saved import SPLITS, STATE, is_saved
from .tar_file import BoundedHeader
from .unpack import MAX_MEMBERS

TABLES = (*(suffix for suffix in file_endings.CSV if suffix != ".txt"), *file_endings.JSONL, ".parquet")
COCO_KEYS = {"text-to-image": (b'"annotations"', b'"caption"'), "image-to-image": (b'"annotations"', b'"category_id"')}
BESIDE = ("annotations", "data")
"""Folders of tables in COCO's archives and in data sets of Hugging Face."""
BLOCK = 2**20


def content_of(folder: Path, task: str) -> list[str]:
    """Return the paths of the data in an unpacked archive, all of one kind.

    These are, in this order: a data set that `save_to_disk` wrote; a folder with a metadata file; the tables, COCO's
    JSON files for the task, or shards, in the topmost folder that has more than one entry, or else in a folder of
    BESIDE in it; that folder, as images.

    Args:
        folder: of the unpacked archive.
        task: 'text-to-image' or 'image-to-image'.

    Raises:
        InvalidInput: several kinds of data, or several CSV or JSON files.
    """
    top = _top(folder)
    if is_saved(top) or any((top / name).is_file() for name in METADATA):
        return [str(top)]
    for place in (top, *(top / name for name in BESIDE)):
        if found := _data_in(place, task):
            kinds = {path.suffix.lower() for path in found}
            if len(kinds) > 1 or (len(found) > 1 and kinds & {*file_endings.CSV, ".json"}):
                shown = ", ".join(repr(str(path.relative_to(folder))) for path in found[:20])
                raise InvalidInput(
                    f"archive must have one table, or several parquet, jsonl or tar files. Got {shown} in "
                    f"{folder.name!r}. Unpack it, and pass the one to read."
                )
            return [str(path) for path in found]
    return [str(top)]


def is_of_files(path: str, task: str) -> bool:
    """Return whether a tar file has data as files, to be unpacked, and is no shard of WebDataset.

    It is of files if it has a table, a data set that `save_to_disk` wrote, or a JSON file that is not beside an image;
    or, for `image-to-image`, images in folders, and no labels beside them.
    """
    beside: set[str] = set()
    json: set[str] = set()
    labels = folders = False
    for name in islice(_names(path), MAX_MEMBERS):
        pure = PurePosixPath(name)
        suffix = pure.suffix.lower()
        if suffix in TABLES or pure.name in (STATE, SPLITS):
            return True
        if suffix == ".json":
            json.add(str(pure.with_suffix("")))
            continue
        beside.add(str(pure.with_suffix("")))
        beside.add(name)
        labels |= suffix == ".cls"
        folders |= len(pure.parts) > 1
    if json:
        return json.isdisjoint(beside)
    return task == "image-to-image" and folders and not labels


def _names(path: str) -> Iterator[str]:
    """Yield the names of the files in a tar file, up to a damaged place, which its reader reports."""
    try:
        with tarfile.open(path, "r|*", tarinfo=BoundedHeader) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # the list would grow with the archive
                if member.isfile() and not PurePosixPath(member.name).name.startswith("."):
                    yield member.name
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError):
        return


def _top(folder: Path) -> Path:
    """Return the topmost folder that has more than one entry, or files, or nothing but images."""
    while True:
        entries = _visible(folder)
        if len(entries) != 1 or not entries[0].is_dir() or is_saved(folder):
            return folder
        inner = _visible(entries[0])
        if not any(path.is_dir() or path.suffix.lower() in (*TABLES, ".json", ".tar") for path in inner):
            return folder  # its name may be the label of the images in it
        folder = entries[0]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _data_in(folder: Path, task: str) -> list[Path]:
    """Return the tables, COCO's JSON files and shards directly in a folder; shards only without the others."""
    if not folder.is_dir():
        return []
    files = [path for path in _visible(folder) if path.is_file()]
    tables = [path for path in files if path.suffix.lower() in TABLES]
    json = [path for path in files if path.suffix.lower() == ".json" and _mentions(path, COCO_KEYS[task])]
    return [*tables, *json] or [path for path in files if path.name.lower().endswith(file_endings.TAR)]


def _mentions(path: Path, keys: tuple[bytes, ...]) -> bool:
    """Return whether a file has all keys, with a block in memory at a time."""
    missing, end = set(keys), b""
    with open(path, "rb") as file:
        while missing and (block := file.read(BLOCK)):
            missing = {key for key in missing if key not in end + block}
            end = block[-max(map(len, keys)) :]
    return not missing
