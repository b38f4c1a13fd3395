"""The workspace: a folder with runs, datasets, artifacts, aliases and the index.

    runs.sqlite                   configuration and status of each run
    runs/<artifact id>/           config, log, metrics and outcome of one run
    datasets/<content hash>/      parquet parts; datasets/names/ maps names to them
    artifacts/<artifact id>/      published models
    aliases/                      `live` and others: small files that name artifacts
    fingerprints/                 of the towers of backbones that runs have started from
    index/                        documents and vectors
    backups/<name>/               copies of the index
    feedback/marks.sqlite         marks of searches; a restore of the index keeps them
    cache/pixels/                 cache of decoded images; may be removed at any time
    exports/                      artifacts for other libraries, for a day; may be removed at any time
    layout.json                   version of this layout, and the package's that has written it
    tokens.json, audit.jsonl      hashes of access tokens; log of changes
    workspace.id                  with a database server: the id by which its database knows this workspace
    rooms.token                   secret between the gateway and the rooms

Only the Flow's user can read the files that its rooms write.

A user's name never becomes a path: it is stored in a file that is named by the hash of the name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..exceptions import FinetunerServerError, InvalidInput
from ..version import __version__

Target = TypeVar("Target")

# Errors of parsing a damaged file: no JSON, other types, missing keys.
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

ASIDE = ".damaged"
LAYOUT = 1  # raise it when an older version could damage the workspace, or not read it
LAYOUT_FILE = "layout.json"
ID_FILE = "workspace.id"


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a small file atomically and durably: a reader sees the old or the new content, also after a crash.

    Args:
        path: of the file.
        content: of the whole file.
        mode: permissions, before the umask applies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def file_version(path: Path) -> tuple[int, ...] | None:
    """Return what changes whenever a file is written or replaced; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def keep_files_private() -> None:
    """Let only this user read the files that this process and its children create."""
    os.umask(0o077)


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder, so it counts as missing, and return its new path."""
    aside = path.with_name(f"{path.name}{ASIDE}")
    if aside.exists():
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{ASIDE}")
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def temporary_folder(folder: Path) -> Path:
    """Make a new folder inside `folder`, so a later rename stays on the same file system."""
    path = folder / f".new-{uuid.uuid4().hex}"
    path.mkdir(parents=True)
    return path


def publish_folder(temporary: Path, final: Path) -> None:
    """Write a finished folder to disk, then rename it: it is published completely or not at all."""
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.rename(temporary, final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Write the names in `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Pointers(Generic[Target]):
    """A mapping of names to targets, with one small JSON file per name, replaced atomically.

    A damaged file costs its own name alone, until the name is set again.

    Args:
        folder: of the files; made when the first pointer is set.
        kind: what has these names, for messages: 'alias'.
        read: returns a stored target, or raises ValueError, TypeError, KeyError or AttributeError for a damaged one.
    """

    def __init__(self, folder: Path, kind: str, read: Callable[[dict[str, Any]], Target]) -> None:
        self._folder = folder
        self._kind = kind
        self._read = read
        self._file = lru_cache(64)(self._path)  # every request looks `live` up

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def set(self, name: str, target: dict[str, Any]) -> None:
        """Set the target of `name`."""
        write_atomically(self._file(name), json.dumps({"name": name, "target": target}).encode())

    def get(self, name: str) -> Target | None:
        """Return the target of `name`, or None without one.

        Raises:
            FinetunerServerError: the file of the name is damaged.
        """
        try:
            return self._entry(self._file(name))[1]
        except FileNotFoundError:
            return None
        except (*DAMAGE, OSError) as error:
            raise FinetunerServerError(f"{self._problem(self._file(name), error)} The name is {name!r:.200}.") from None

    def delete(self, name: str) -> bool:
        """Delete `name`, and return whether it existed."""
        try:
            self._file(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def all(self) -> Iterator[tuple[str, Target]]:
        """Yield every name with its target, sorted by name. Damaged files are left out."""
        yield from sorted(self._scan()[0], key=lambda entry: entry[0])

    def problems(self) -> list[str]:
        """Return one sentence for each damaged file."""
        return self._scan()[1]

    def _scan(self) -> tuple[list[tuple[str, Target]], list[str]]:
        found, problems = [], []
        for file in sorted(self._folder.glob("[!.]*.json")):
            try:
                found.append(self._entry(file))
            except FileNotFoundError:  # deleted meanwhile
                pass
            except (*DAMAGE, OSError) as error:
                problems.append(self._problem(file, error))
        return found, problems

    def _entry(self, file: Path) -> tuple[str, Target]:
        entry = json.loads(file.read_bytes())
        name = entry["name"]
        if self._file(name) != file:
            raise ValueError(f"the entry of {name!r:.80} under another name")
        return name, self._read(dict(entry["target"]))

    def _problem(self, file: Path, error: Exception) -> str:
        return (
            f"{self._folder.name}/{file.name} must hold the target of one {self._kind}. Got {error!r:.200}. It is set "
            f"aside: set that {self._kind} again, or remove the file."
        )


def _alias_target(target: dict[str, Any]) -> dict[str, Any]:
    """Return the target of an alias: the `artifact`, and other fields."""
    if not isinstance(target["artifact"], str) or not target["artifact"]:
        raise ValueError(f"artifact {target['artifact']!r:.80}")
    for field in ("promoted_at", "since"):
        float(target.get(field, 0))
    return target


def _fingerprints(target: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprints of a backbone's towers."""
    if not all(isinstance(value, str) for value in target.values()):
        raise ValueError(f"fingerprints {target!r:.80}")
    return target


def check_layout(root: Path) -> bool:
    """Check that no newer version has written to a workspace. Return whether its file names the layout of this one.

    Raises:
        InvalidInput: a newer version has.
    """
    try:
        found = json.loads((root / LAYOUT_FILE).read_bytes())
        layout, version = int(found["layout"]), str(found["version"])
    except (*DAMAGE, OSError):
        return False
    if layout > LAYOUT:
        raise InvalidInput(
            f"the workspace must have layout {LAYOUT}, of open-finetuner {__version__}, or an older one. Got {layout}, "
            f"of {version:.40}, in {root}. Install that version or a newer one, or choose another workspace."
        )
    return layout == LAYOUT


class Workspace:
    """Paths of the workspace's folder tree.

    Args:
        root: a folder, made if missing, or its `file://` URL.

    Raises:
        InvalidInput: another URL, such as that of an object store.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        text = os.fspath(root)
        if "://" in text and not text.startswith("file://"):
            raise InvalidInput(f"workspace must be a folder or a file:// URL. Got {text!r}. Use a folder.")
        path = url2pathname(urlsplit(text).path) if text.startswith("file://") else text
        self.root = Path(path).expanduser().resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.aliases = Pointers(self.root / "aliases", "alias", _alias_target)
        self.fingerprints = Pointers(self.root / "fingerprints", "backbone", _fingerprints)

    def claim(self) -> None:
        """Record that this version writes here, unless the workspace is a newer version's.

        Raises:
            InvalidInput: a newer version has written here.
        """
        if not check_layout(self.root):
            content = json.dumps({"layout": LAYOUT, "version": __version__})
            write_atomically(self.root / LAYOUT_FILE, content.encode())

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @property
    def runs_database(self) -> Path:
        """The SQLite database of the runs."""
        return self.root / "runs.sqlite"

    def run(self, artifact_id: str) -> Path:
        """Return the folder of the run with this artifact id."""
        return self.root / "runs" / artifact_id

    @property
    def datasets(self) -> Path:
        """Folder of the datasets, by content hash."""
        return self.root / "datasets"

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts, by id."""
        return self.root / "artifacts"

    @property
    def index(self) -> Path:
        """Folder of the index: documents and embeddings."""
        return self.root / "index"

    @property
    def pixels(self) -> Path:
        """Folder of the cache of decoded images."""
        return self.root / "cache" / "pixels"

    def artifact_of(self, alias: str) -> str | None:
        """Return the artifact id of an alias, or None without one."""
        target = self.aliases.get(alias)
        return None if target is None else str(target["artifact"])


def remove(folder: Path) -> None:
    """Remove a folder. It is renamed first, so no reader finds a part of it."""
    doomed = folder.with_name(f".old-{uuid.uuid4().hex}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
