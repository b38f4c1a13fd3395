"""Collections on disk: one folder each.

    <hash of artifact>/collection.json    artifact, dim, distance, engine, name
    <hash of artifact>/                   beside it, the engine's files on this machine

The hash names the folder, because an id from outside never becomes a path. A collection exists whole or not at all:
it is created under a temporary name and renamed, and deleted the same way. A collection that cannot be opened is set
aside, as `.aside-<hash of artifact>-<hex>`, with the reason in `aside.txt`. The others serve.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection as Ids
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput, NotFound
from finetuner.executors.indexer.engines.engine import Collection, Engine
from finetuner.workspace.folder import (
    DAMAGE,
    publish_folder,
    remove,
    sync_folder,
    temporary_folder,
    write_atomically,
)  # fmt: skip

DESCRIPTION = "collection.json"
HASH = re.compile("[0-9a-f]{64}")  # of an artifact
DISTANCE = "cosine"
PAGE = 1000  # ids that one scroll reads
MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EROFS}
ASIDE, REASON = ".aside-", "aside.txt"


class DamagedCollection(Exception):
    """A collection that cannot be opened."""


class Collections:
    """Opens every collection of a folder, until `close`.

    Args:
        folder: of the index.
        engine: stores the vectors.

    Attributes:
        problems: one sentence for each collection that is set aside, now or earlier.

    Raises:
        InvalidInput: a collection belongs to another engine.
        FinetunerServerError: a server does not answer.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self.engine = engine
        self._opened: dict[str, Collection] = {}
        for half in [*folder.glob(".new-*"), *folder.glob(".old-*")]:
            self._sweep(half)
        try:
            for collection in sorted(path for path in folder.iterdir() if HASH.fullmatch(path.name)):
                try:
                    self._open(collection)
                except DamagedCollection as error:
                    self._set_aside(collection, str(error))
        except BaseException:
            self.close()
            raise
        self.problems = [_aside_problem(aside) for aside in sorted(folder.glob(f"{ASIDE}*"))]

    def __contains__(self, artifact: str) -> bool:
        return artifact in self._opened

    def __getitem__(self, artifact: str) -> Collection:
        return self._opened[artifact]

    def named(self, artifact: str) -> Collection:
        """Return an artifact's collection.

        Raises:
            NotFound: no such collection; the message lists all artifacts with one.
        """
        if artifact in self._opened:
            return self._opened[artifact]
        have, needed = ", ".join(map(repr, self.all())), f"the index must have vectors of artifact {artifact!r}"
        if not have:
            raise NotFound(f"{needed}. Got an empty index. Index documents first.")
        raise NotFound(
            f"{needed}. Got vectors of {have} only. Search with one of these, or index the documents with {artifact!r}."
        )

    def all(self) -> dict[str, Collection]:
        """Return every collection by its artifact, sorted."""
        return dict(sorted(self._opened.copy().items()))

    def create(self, artifact: str, dim: int, fields: Mapping[str, str]) -> Collection:
        """Create an empty collection with an index for each field. A kill leaves a `.new-*` folder behind.

        Args:
            artifact: id of the artifact; it has no collection yet.
            dim: length of the vectors, 1 to 65536.
            fields: path -> kind.
        """
        temporary = temporary_folder(self._folder)
        described: dict[str, Any] = {
            "artifact": artifact, "dim": dim, "distance": DISTANCE, "engine": self.engine.name,
            "name": f"finetuner-{uuid.uuid4().hex}",
        }  # fmt: skip
        write_atomically(temporary / "making.json", json.dumps(described).encode())
        self.engine.create(temporary / "made", described["name"], dim)
        write_atomically(temporary / "made" / DESCRIPTION, json.dumps(described).encode())
        publish_folder(temporary / "made", self.folder_of(artifact))
        shutil.rmtree(temporary)
        collection = self._open(self.folder_of(artifact))
        for path, kind in fields.items():
            collection.index_field(path, kind)
        return collection

    def copy(self, source: str, target: str, ids: Ids[str], fields: Mapping[str, str]) -> list[str]:
        """Create a collection with some of another one's vectors.

        They stay the same bit by bit where the engine keeps its files here. A server normalises them once more.

        Args:
            source: artifact of the other one.
            target: artifact of the new one, which has none yet.
            ids: documents whose vectors are wanted.
            fields: path -> kind, for an engine on a server.

        Returns:
            The ids of the new collection. [] and no collection where a vector has lost its id.
        """
        found, lost = _ids(self._opened[source])
        kept, dropped = [key for key in found if key in ids], [key for key in found if key not in ids]
        if lost or not kept:
            return []
        temporary = temporary_folder(self._folder)
        name = f"finetuner-{uuid.uuid4().hex}"
        described = self.describe(self.folder_of(source)) | {"artifact": target, "name": name}
        write_atomically(temporary / "making.json", json.dumps(described).encode())
        made = temporary / "made"
        try:
            if self.engine.files_here:
                made.mkdir()
                self._opened[source].copy_to(made)
            else:
                self.engine.create(made, name, described["dim"])
            write_atomically(made / DESCRIPTION, json.dumps(described).encode())
            collection = self.engine.open(made, name, described["dim"])
            try:
                if self.engine.files_here:
                    collection.delete(dropped)
                else:
                    _copy_points(self._opened[source], collection, set(kept), fields)
            finally:
                collection.close()
            publish_folder(made, self.folder_of(target))
        except BaseException:
            self._sweep(temporary)
            raise
        shutil.rmtree(temporary)
        self._open(self.folder_of(target))
        return kept

    def drop(self, artifact: str) -> None:
        """Delete a collection and its files."""
        folder = self.folder_of(artifact)
        collection = self._opened.pop(artifact)
        name = self.describe(folder)["name"]
        remove(folder)  # after this line the collection is gone, even after a kill
        collection.close()
        self.engine.drop(name)

    def folder_of(self, artifact: str) -> Path:
        """Return the folder of an artifact's collection."""
        return self._folder / hashlib.sha256(artifact.encode()).hexdigest()

    def describe(self, folder: Path) -> dict[str, Any]:
        """Return a collection's description."""
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
        return described

    def generation(self, artifact: str) -> str:
        """Return the name of an artifact's collection: another one after a drop."""
        return str(self.describe(self.folder_of(artifact))["name"])

    def close(self) -> None:
        """Close every collection."""
        for collection in self._opened.values():
            collection.close()
        self._opened.clear()

    def _open(self, folder: Path) -> Collection:
        try:
            described = self.describe(folder)
            artifact, engine = described["artifact"], described["engine"]
            if not isinstance(artifact, str) or self.folder_of(artifact) != folder or not isinstance(engine, str):
                raise ValueError(f"the description of {artifact!r:.80} in {engine!r:.80}")
            if engine != self.engine.name:
                raise InvalidInput(
                    f"`index` must be {engine!r}, which has the vectors of {artifact!r}. Got {self.engine.name!r}. "
                    "Set it back, or start with it once and move the vectors: finetuner index move URL."
                )
            collection = self.engine.open(folder, str(described["name"]), int(described["dim"]))
        except NotFound as error:
            raise DamagedCollection(str(error)) from error
        except (FinetunerError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the embedded engine raises bare `Exception`, and panics as BaseException
            if _of_machine(error):
                raise FinetunerServerError(
                    f"collection {str(folder)!r} must be on a disk that works and has free space. Got: {error}. "
                    "Repair the machine and start again. Nothing is lost."
                ) from error
            got = " ".join(str(error).split())  # with the engine's whole stack
            raise DamagedCollection(f"it must hold {DESCRIPTION} and the engine's files. Got: {got:.300}.") from error
        self._opened[artifact] = collection
        return collection

    def _set_aside(self, folder: Path, reason: str) -> None:
        aside = self._folder / f"{ASIDE}{folder.name}-{uuid.uuid4().hex}"
        folder.rename(aside)
        sync_folder(self._folder)
        if aside.is_dir():
            write_atomically(aside / REASON, reason.encode(errors="replace"))

    def _sweep(self, half: Path) -> None:
        """Remove a collection that was half created or half dropped when the process was killed."""
        for description in (half / "making.json", half / DESCRIPTION):
            if description.exists():
                with suppress(*DAMAGE):  # a damaged description names nothing to drop
                    described = json.loads(description.read_bytes())
                    if described["engine"] == self.engine.name:
                        self.engine.drop(str(described["name"]))
        shutil.rmtree(half) if half.is_dir() else half.unlink()


def _ids(collection: Collection) -> tuple[list[str], bool]:
    """Return the ids of all vectors, and whether one has lost its id."""
    ids: list[str] = []
    after: str | None = None
    while True:
        points, after = collection.scroll(after, PAGE, vectors=False)
        ids += [point.id for point in points]
        if after is None:
            return ids, "" in ids


def _copy_points(source: Collection, target: Collection, ids: set[str], fields: Mapping[str, str]) -> None:
    for path, kind in fields.items():
        target.index_field(path, kind)
    after: str | None = None
    while True:
        points, after = source.scroll(after, PAGE)
        if wanted := [point for point in points if point.id in ids]:
            target.upsert(wanted)
        if after is None:
            return


def _of_machine(error: BaseException) -> bool:
    """Return whether an error is one of the machine, such as a full disk. The files may be intact."""
    found = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    return number in MACHINE


def _aside_problem(aside: Path) -> str:
    try:
        reason = (aside / REASON).read_bytes().decode(errors="replace")
    except OSError:
        reason = "it must be a folder."
    return (
        f"the collection in index/{aside.name} is set aside: {reason} The indexer encodes documents of `live` again. "
        "Restore others from a backup, or remove that folder."
    )


def bytes_on_disk(folder: Path) -> int:
    """Return the size of a folder, in bytes of its disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                # count blocks, not lengths: the engine's files are sparse
                total += (Path(parent) / name).lstat().st_blocks * 512
            except FileNotFoundError:  # the engine has dropped a log segment meanwhile
                continue
    return total
