"""Backup and restore of a whole index.

    <workspace>/backups/<name>/manifest.json    counts, the searched artifact, size and SHA-256 of each file
    <workspace>/backups/<name>/                 beside it, the index at one moment

A backup exists whole or not at all. The next opening of the index finishes a restore that was killed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetuner.artifacts.manifest import sha256_of
from finetuner.contract.checks import checked_name
from finetuner.exceptions import AlreadyExists, FinetunerServerError, InvalidInput, NotFound
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.upkeep.verify import verify_index
from finetuner.workspace.folder import ASIDE, DAMAGE, publish_folder, set_aside, temporary_folder, write_atomically

MANIFEST = "manifest.json"
# The next step of a restore: 'remove' the old files, then 'move' the staged ones.
MARKER = "restore.json"
STEPS = ("remove", "move")
STAGED = ".restore-"
KEPT = ("lock", MARKER)


def backup(index: Index, folder: Path, name: object, searched: str) -> dict[str, Any]:
    """Write a backup. Writes to the index wait while its files are copied; searches continue.

    Args:
        index: open.
        folder: of all backups.
        name: of the new backup.
        searched: the artifact that `live` searches.

    Returns:
        The manifest without the files.

    Raises:
        AlreadyExists: the name is taken.
        InvalidInput: the name is invalid, or the vectors are on a server.
    """
    final = folder / checked_name(name, "backup")
    if final.exists():
        raise AlreadyExists(f"backup must have a new name. Got {name!r}, which exists. Choose another.")
    if index.collections.engine.name != EdgeEngine.name:
        raise InvalidInput(
            f"a backup needs the vectors on this machine. Got them on {index.collections.engine.name}. Take a "
            "snapshot there, and keep index/documents.sqlite with it."
        )
    with _temporary(folder) as temporary:
        with index.writing:
            index.documents.copy_to(temporary / "documents.sqlite")
            for artifact, collection in index.collections.all().items():
                collection.copy_to(temporary / index.collections.folder_of(artifact).name)
            manifest = {
                "made_at": time.time(), "searched": searched, "documents": len(index.documents),
                "collections": index.counts(),
            }  # fmt: skip
        files = {str(file.relative_to(temporary)): _checksum(file) for file in _files(temporary)}
        write_atomically(temporary / MANIFEST, json.dumps(manifest | {"files": files}, indent=1).encode())
        publish_folder(temporary, final)
    return manifest


def check_backup(folder: Path, name: object, whole: bool = True) -> dict[str, Any]:
    """Compare every file with its checksum. With `whole`, also open a copy and compare documents and vectors.

    Returns:
        The manifest without the files.

    Raises:
        NotFound: no such backup.
        FinetunerServerError: a file is missing or differs.
    """
    backup_folder = folder / checked_name(name, "backup")
    if not (backup_folder / MANIFEST).is_file():
        have = ", ".join(sorted(entry.parent.name for entry in folder.glob(f"[!.]*/{MANIFEST}"))) or "none"
        raise NotFound(f"backup must be one of: {have}. Got {name!r}. See backups/ in the workspace.")
    manifest: dict[str, Any] = json.loads((backup_folder / MANIFEST).read_bytes())
    files = manifest.pop("files")
    found = {str(file.relative_to(backup_folder)) for file in _files(backup_folder)} - {MANIFEST}
    if found != set(files):
        raise _damaged(name, sorted(found ^ set(files))[0], "differs from the manifest's list")
    for file, expected in files.items():
        if _checksum(backup_folder / file) != expected:
            raise _damaged(name, file, "differs from its checksum")
    if whole:
        with _temporary(folder) as temporary:
            shutil.copytree(backup_folder, temporary, dirs_exist_ok=True)
            index = Index(temporary, min_free_mb=0)
            try:
                counted = verify_index(index)
            finally:
                index.close()
        if counted != {"documents": manifest["documents"], "vectors": manifest["collections"]}:
            raise _damaged(name, "its content", f"is {counted}, unlike the manifest")
    return manifest


def stage_restore(backups: Path, name: object, index_folder: Path) -> dict[str, Any]:
    """Check a backup and copy it beside the index. `finish_restore` then replaces the index, now or at the next start.

    Raises:
        NotFound, FinetunerServerError: see `check_backup`.
    """
    manifest = check_backup(backups, name, whole=False)
    staged = index_folder / f"{STAGED}{uuid.uuid4().hex}"
    temporary = temporary_folder(index_folder)
    shutil.copytree(backups / str(name), temporary, dirs_exist_ok=True)
    (temporary / MANIFEST).unlink()
    publish_folder(temporary, staged)
    write_atomically(index_folder / MARKER, json.dumps({"staged": staged.name, "step": "remove"}).encode())
    return manifest


def finish_restore(folder: Path) -> None:
    """Finish the restore of a closed index. Do nothing if no restore was started."""
    marker = folder / MARKER
    if not marker.exists():
        for left in folder.glob(f"{STAGED}*"):
            if not left.name.endswith(ASIDE):
                shutil.rmtree(left)
        return
    try:
        step = json.loads(marker.read_bytes())
        staged = folder / Path(step["staged"]).name
        if step["step"] not in STEPS or not staged.name.startswith(STAGED):
            raise ValueError(f"{step!r:.80}")
    except DAMAGE:  # the staged files stay, set aside with it
        for path in (*folder.glob(f"{STAGED}*"), marker):
            set_aside(path)
        return
    if step["step"] == "remove":
        for entry in folder.iterdir():
            if entry.name not in (*KEPT, staged.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        write_atomically(marker, json.dumps(step | {"step": "move"}).encode())
    for entry in list(staged.iterdir()) if staged.exists() else []:
        os.replace(entry, folder / entry.name)
    marker.unlink()
    shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    temporary = temporary_folder(folder)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checksum(file: Path) -> list[Any]:
    return [file.stat().st_size, sha256_of(file)]


def _damaged(name: object, file: str, how: str) -> FinetunerServerError:
    return FinetunerServerError(f"backup {name!r} must be intact. Got {file}, which {how}. Use another backup.")
