"""The workspace, by trying there what the Flow does there; its clock; and the weights that models would come from.

What is tried happens in a temporary folder inside, which is removed; a workspace that is not there is not made.
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
from ..models.backbones import CLIP_MINI_FOLDER
from ..models.weights import SUFFIXES, shared_folder
from ..workspace.folder import publish_folder, temporary_folder, write_atomically
from .finding import Finding, failed, ok, warning

RELEASED = 2026  # no clock is before the year of this code
CLOCK_SECONDS = 2.0
TRIAL = ".doctor-"
PACKAGED = CLIP_MINI_FOLDER / "open_clip_model.safetensors"


def nearest(root: Path) -> Path:
    """Return the workspace, or what is there of the way to it."""
    return next(path for path in (root, *root.parents) if path.exists())


def folder(root: Path) -> Iterator[Finding]:
    """Try in the workspace, or where it would be made, what the Flow relies on.

    Args:
        root: of the workspace, absolute.
    """
    place = nearest(root)
    if not place.is_dir():
        yield failed("workspace", f"{place} is no folder", "Choose a folder with --workspace.")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=TRIAL, dir=place) as trial:
            for what, attempt in ATTEMPTS.items():
                try:
                    attempt(Path(trial))
                except (OSError, sqlite3.Error) as error:
                    yield failed(
                        "workspace",
                        f"{place} does not keep {what}: {error}",
                        "Choose a folder of a local disk with --workspace; network file systems often lack this.",
                    )
                    return
    except OSError as error:
        yield failed("workspace", f"{place} cannot be written: {error.strerror}", _way_in(root, place, error))
        return
    if place != root:
        yield ok("workspace", f"{root} is not there, and can be made")
    elif closed := [entry.name for entry in sorted(root.iterdir()) if not _is_open(entry)]:
        yield failed(
            "workspace",
            f"{root} holds what uid {os.geteuid()} may not read and write: {', '.join(closed)}",
            _give(root),
        )
    else:
        yield ok("workspace", f"{root}: files are replaced, synced, locked and mapped as they must be")


def _replace(trial: Path) -> None:
    for content in (b"old", b"new"):
        write_atomically(trial / "file", content)
    if (trial / "file").read_bytes() != b"new":
        raise OSError("the old content is still there")
    publish_folder(temporary_folder(trial), trial / "folder")


def _lock(trial: Path) -> None:
    import fcntl  # not on Windows, where the rest of the command line works

    with open(trial / "lock", "wb") as one, open(trial / "lock", "wb") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise OSError("two hold the same one")


def _map(trial: Path) -> None:
    with open(trial / "map", "w+b") as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 0) as pages:
            pages[:3] = b"new"
            pages.flush()
        if file.read(3) != b"new":
            raise OSError("what was written into memory is not in the file")


def _database(trial: Path) -> None:
    with closing(sqlite3.connect(trial / "database")) as database:
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise OSError(f"its journal is {mode!r}")
        database.execute("CREATE TABLE runs (name TEXT)")


ATTEMPTS: dict[str, Callable[[Path], None]] = {
    "files that are replaced whole and synced": _replace,
    "locks": _lock,
    "files that are mapped into memory": _map,  # by the index
    "a SQLite database with a write-ahead log": _database,  # of the runs
}


def _is_open(entry: Path) -> bool:
    return os.access(entry, os.R_OK | os.W_OK | (os.X_OK if entry.is_dir() else 0))


def _give(root: Path) -> str:
    return f"As root: chown -R {os.geteuid()} {root} (of a bind mount: its folder on the host)."


def _way_in(root: Path, place: Path, error: OSError) -> str:
    """Return what to do about a folder in which nothing can be made."""
    if error.errno in (errno.EACCES, errno.EPERM) and place.stat().st_uid != os.geteuid():
        if place == root:
            return _give(root)
        return f"As root: mkdir -p {root} && chown {os.geteuid()} {root}. Or choose another folder with --workspace."
    return "Mount it writable, or choose another folder with --workspace."


def clock(root: Path) -> Iterator[Finding]:
    """Compare the clock with the year of this code, and with that of the workspace's file system.

    Args:
        root: of the workspace, absolute.
    """
    before = time.time()
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(before))
    if time.gmtime(before).tm_year < RELEASED:
        yield failed("clock", f"{found}, before this code", "Set it: tokens and certificates expire by it.")
        return
    ahead = 0.0
    with suppress(OSError), tempfile.NamedTemporaryFile(prefix=TRIAL, dir=nearest(root)) as file:
        file.write(b"now")
        file.flush()
        os.fsync(file.fileno())
        ahead = apart(os.fstat(file.fileno()).st_mtime, before, time.time())
    if abs(ahead) <= CLOCK_SECONDS:
        yield ok("clock", found)
    else:
        yield warning(
            "clock",
            f"{found}; that of the workspace's file system is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}",
            "Set both by NTP: files there seem older or newer than they are.",
        )


def apart(written: float, before: float, after: float) -> float:
    """Return by how many seconds a file's time lies outside the span in which it was written; ahead is positive."""
    return written - min(max(written, before), after)


def weights(root: Path) -> Iterator[Finding]:
    """Say where weights lie, and whether the packaged ones are whole.

    Args:
        root: of the workspace, absolute.
    """
    given = shared_folder()
    if given is not None and not given.is_dir():
        yield warning("weights", f"${WEIGHTS} is {given}, which is no folder", f"Make it, or unset ${WEIGHTS}.")
    try:
        damage = damage_of(PACKAGED)
    except OSError as error:
        damage = error.strerror or str(error)
    if damage:
        yield failed("weights", f"{PACKAGED} cannot be used: {damage}", "Install the package again.")
        return
    places = {f"${WEIGHTS}": given, "the workspace": root / "weights", "the hub's cache": _hub_cache()}
    counts = {name: _count(place) for name, place in places.items() if place is not None and place.is_dir()}
    others = [f"{count} in {name}" for name, count in counts.items()]
    yield ok(
        "weights", f"clip-mini; files: {', '.join(others) or 'no others, so models are downloaded when first used'}"
    )


def damage_of(file: Path) -> str:
    """Return what is wrong with a safetensors file, '' where its header and size agree; no tensor is read.

    Raises:
        OSError: it cannot be read.
    """
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        size = file.stat().st_size
        if length + 8 > size:
            return "it ends within its header"
        try:
            header = json.loads(opened.read(length))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, TypeError, LookupError, AttributeError):
            return "its header is not that of safetensors"
    return "" if size == 8 + length + end else f"it has {size} bytes, and its header says {8 + length + end}"


def _hub_cache() -> Path | None:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ModuleNotFoundError:  # a client alone
        return None
    return Path(HF_HUB_CACHE)


def _count(place: Path) -> int:
    return sum(path.suffix in SUFFIXES and path.is_file() for path in place.rglob("*"))
