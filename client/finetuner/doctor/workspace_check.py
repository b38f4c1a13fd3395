"""Checks the workspace, its clock and the weights of models.

The check of the workspace repeats the Flow's file operations in a temporary folder inside, and removes that folder. It
never creates a missing workspace.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ..contract.environment import WEIGHTS
from ..models.rows import CLIP_MINI_FOLDER
from ..models.weights import SUFFIXES, shared_folder
from ..workspace.folder import check_layout, publish_folder, temporary_folder, write_atomically
from .finding import Finding, failed, ok, warning

RELEASED = 2026  # the year of this code. An earlier clock is wrong
CLOCK_SECONDS = 2.0
TRIAL = ".doctor-"
PACKAGED = CLIP_MINI_FOLDER / "open_clip_model.safetensors"


def nearest_folder(root: Path) -> Path:
    """Return the workspace, or its nearest parent that exists."""
    return next(path for path in (root, *root.parents) if path.exists())


def workspace(root: Path) -> Iterator[Finding]:
    """Try the file operations of the Flow in the workspace, or in its nearest parent if it does not exist.

    Args:
        root: absolute path of the workspace.
    """
    folder = nearest_folder(root)
    if not folder.is_dir():
        yield failed("workspace", f"{folder} is not a folder", "Choose a folder with --workspace.")
        return
    check_layout(root)
    try:
        with tempfile.TemporaryDirectory(prefix=TRIAL, dir=folder) as trial:
            for feature, attempt in ATTEMPTS.items():
                try:
                    attempt(Path(trial))
                except (OSError, sqlite3.Error) as error:
                    yield failed(
                        "workspace",
                        f"{folder} does not support {feature}: {error}",
                        "Choose a folder on a local disk with --workspace. Network file systems often lack this.",
                    )
                    return
    except OSError as error:
        yield failed("workspace", f"{folder} cannot be written: {error.strerror}", _access_advice(root, folder, error))
        return
    if folder != root:
        yield ok("workspace", f"{root} does not exist yet and can be created")
    elif closed := [entry.name for entry in sorted(root.iterdir()) if not _is_open(entry)]:
        yield failed(
            "workspace",
            f"uid {os.geteuid()} cannot read and write these in {root}: {', '.join(closed)}",
            _chown_advice(root),
        )
    else:
        yield ok("workspace", f"{root} supports replacing, syncing, locking and mapping files")


def _replace(trial: Path) -> None:
    for content in (b"old", b"new"):
        write_atomically(trial / "file", content)
    if (trial / "file").read_bytes() != b"new":
        raise OSError("the file still has its old content")
    publish_folder(temporary_folder(trial), trial / "folder")


def _lock(trial: Path) -> None:
    import fcntl  # missing on Windows, where the other commands work

    with open(trial / "lock", "wb") as one, open(trial / "lock", "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("two processes hold the same lock")


def _map(trial: Path) -> None:
    with open(trial / "map", "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 0) as pages:
            pages[:3] = b"new"
            pages.flush()
        if file.read(3) != b"new":
            raise OSError("a write to the mapped memory did not reach the file")


def _database(trial: Path) -> None:
    with closing(sqlite3.connect(trial / "database")) as database:
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise OSError(f"the journal mode is {mode!r}")
        database.execute("CREATE TABLE runs (name TEXT)")


ATTEMPTS: dict[str, Callable[[Path], None]] = {
    "atomic replacement and fsync": _replace,
    "file locks": _lock,
    "memory-mapped files": _map,  # the index
    "SQLite with a write-ahead log": _database,  # the runs
}


def _is_open(entry: Path) -> bool:
    return os.access(entry, os.R_OK | os.W_OK | (os.X_OK if entry.is_dir() else 0))


def _chown_advice(root: Path) -> str:
    return f"As root: chown -R {os.geteuid()} {root} (for a bind mount: its folder on the host)."


def _access_advice(root: Path, folder: Path, error: OSError) -> str:
    """Return the advice for a folder that cannot be written."""
    if error.errno in (errno.EACCES, errno.EPERM) and folder.stat().st_uid != os.geteuid():
        if folder == root:
            return _chown_advice(root)
        return f"As root: mkdir -p {root} && chown {os.geteuid()} {root}. Or choose another folder with --workspace."
    return "Mount it writable, or choose another folder with --workspace."


def clock(root: Path) -> Iterator[Finding]:
    """Compare the clock with the year of this code, and with the clock of the workspace's file system.

    Args:
        root: absolute path of the workspace.
    """
    before = time.time()
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(before))
    if time.gmtime(before).tm_year < RELEASED:
        yield failed("clock", f"{found}, before the release of this code", "Set it. Tokens expire by it.")
        return
    ahead = 0.0
    with suppress(OSError), tempfile.NamedTemporaryFile(prefix=TRIAL, dir=nearest_folder(root)) as file:
        file.write(b"now")
        file.flush()
        os.fsync(file.fileno())
        ahead = clock_difference(os.fstat(file.fileno()).st_mtime, before, time.time())
    if abs(ahead) <= CLOCK_SECONDS:
        yield ok("clock", found)
    else:
        yield warning(
            "clock",
            f"{found}; the workspace's file system is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}",
            "Set both clocks by NTP. Until then, the ages of files in the workspace are wrong.",
        )


def clock_difference(written: float, before: float, after: float) -> float:
    """Return the seconds from the interval [before, after] to a file's time. Positive if the file's clock is ahead."""
    return written - min(max(written, before), after)


def weights(root: Path) -> Iterator[Finding]:
    """Check the packaged weights, and count the files in the folders of weights.

    Args:
        root: absolute path of the workspace.
    """
    given = shared_folder()
    if given is not None and not given.is_dir():
        yield warning("weights", f"${WEIGHTS} is {given}, which is not a folder", f"Create it, or unset ${WEIGHTS}.")
    try:
        damage = damage_of(PACKAGED)
    except OSError as error:
        damage = error.strerror or str(error)
    if damage:
        yield failed("weights", f"{PACKAGED} cannot be used: {damage}", "Install the package again.")
        return
    folders = {f"${WEIGHTS}": given, "the workspace": root / "weights", "the hub's cache": _hub_cache()}
    counts = {name: _count(folder) for name, folder in folders.items() if folder is not None and folder.is_dir()}
    others = [f"{count} in {name}" for name, count in counts.items()]
    yield ok("weights", f"clip-mini; files: {', '.join(others) or 'none, other models are downloaded at first use'}")


def damage_of(file: Path) -> str:
    """Return the damage of a safetensors file, '' if its header and size agree. Reads no tensor.

    Raises:
        OSError: the file cannot be read.
    """
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        size = file.stat().st_size
        if length + 8 > size:
            return "the file ends within its header"
        try:
            header = json.loads(opened.read(length))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, TypeError, LookupError, AttributeError):
            return "its header is not a safetensors header"
    return "" if size == 8 + length + end else f"it has {size} bytes, and its header states {8 + length + end}"


def _hub_cache() -> Path | None:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ModuleNotFoundError:  # a client without the models' packages
        return None
    return Path(HF_HUB_CACHE)


def _count(folder: Path) -> int:
    return sum(path.suffix in SUFFIXES and path.is_file() for path in folder.rglob("*"))
