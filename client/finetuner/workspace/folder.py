"""The one durable place: a folder with runs, datasets, artifacts, aliases and the index.

    runs.sqlite                   what was asked for, and how it went
    runs/<artifact id>/           config, log, metrics and outcome of one run
    datasets/<content hash>/      parquet parts; datasets/names/ points from names to them
    artifacts/<artifact id>/      published models
    aliases/                      `live` and others: small files that point to artifacts
    index/                        documents and vectors
    backups/<name>/               the index as it was
    cache/pixels/                 decoded images of datasets; may be removed at any time
    tokens.json, audit.jsonl      who may enter, as hashes; who has changed what

A name from outside never becomes a path: names are file contents, files are called by their hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..exceptions import InvalidInput


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a small file so that a reader sees all of the old content or all of the new, also after a crash.

    Args:
        path: of the file.
        content: all of it.
        mode: who may read and write it, less what the umask takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def temporary_folder(folder: Path) -> Path:
    """Make a new folder beside `folder`'s content, on the same file system, for a later rename."""
    path = folder / f".new-{uuid.uuid4().hex}"
    path.mkdir(parents=True)
    return path


def publish_folder(temporary: Path, final: Path) -> None:
    """Sync a finished folder's files and give it its final name: published is all or nothing."""
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
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Pointers:
    """Names that point to something, one small JSON file each, replaced atomically.

    Args:
        folder: where the files lie; made when the first pointer is set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"

    def set(self, name: str, target: dict[str, Any]) -> None:
        """Let `name` point to `target` from now on."""
        write_atomically(self._file(name), json.dumps({"name": name, "target": target}).encode())

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what `name` points to, None where it points to nothing."""
        try:
            return dict(json.loads(self._file(name).read_bytes())["target"])
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> bool:
        """Forget `name`; return whether it was there."""
        try:
            self._file(name).unlink()
        except FileNotFoundError:
            return False
        return True

    def all(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every name with its target, sorted by name."""
        found = [json.loads(path.read_bytes()) for path in self._folder.glob("[!.]*.json")]
        for entry in sorted(found, key=lambda entry: str(entry["name"])):
            yield entry["name"], entry["target"]


class Workspace:
    """The folder tree above.

    Args:
        root: a folder, made where it is not there yet, or its `file://` URL.

    Raises:
        InvalidInput: a URL of another kind; object stores are not supported yet.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        text = os.fspath(root)
        if "://" in text and not text.startswith("file://"):
            raise InvalidInput(f"workspace must be a folder or a file:// URL. Got {text!r}. Use a folder.")
        path = url2pathname(urlsplit(text).path) if text.startswith("file://") else text
        self.root = Path(path).expanduser().resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.aliases = Pointers(self.root / "aliases")

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    @property
    def runs_database(self) -> Path:
        """The SQLite file of the runs."""
        return self.root / "runs.sqlite"

    def run(self, artifact_id: str) -> Path:
        """The folder of the run that makes this artifact."""
        return self.root / "runs" / artifact_id

    @property
    def datasets(self) -> Path:
        """Datasets by content hash."""
        return self.root / "datasets"

    @property
    def artifacts(self) -> Path:
        """Artifacts by id."""
        return self.root / "artifacts"

    @property
    def index(self) -> Path:
        """Documents and vectors."""
        return self.root / "index"

    @property
    def pixels(self) -> Path:
        """Decoded images."""
        return self.root / "cache" / "pixels"

    def artifact_of(self, alias: str) -> str | None:
        """Return the artifact that an alias points to, None where it points to nothing."""
        target = self.aliases.get(alias)
        return None if target is None else str(target["artifact"])


def remove(folder: Path) -> None:
    """Remove a folder: first its name, so that no reader finds half of it, then its content."""
    doomed = folder.with_name(f".old-{uuid.uuid4().hex}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
