"""Collections on disk: one folder each.

    <hash of artifact>/collection.json    artifact, dim, distance, engine, name
    <hash of artifact>/                   beside it, the engine's files on this machine

The hash names the folder, because an id from outside never becomes a path. A collection exists whole or not at all:
it is created under a temporary name and renamed, and deleted the same way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from executors.indexer.engines.engine import Collection, Engine
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput
from finetuner.workspace.folder import publish_folder, remove, temporary_folder, write_atomically

DESCRIPTION = "collection.json"
DISTANCE = "cosine"


class Collections:
    """Opens every collection of a folder, until `close`.

    Args:
        folder: of the index.
        engine: stores the vectors.

    Raises:
        InvalidInput: a collection belongs to another engine.
        FinetunerServerError: the engine cannot open a collection.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder
        self.engine = engine
        self._opened: dict[str, Collection] = {}
        for half in [*folder.glob(".new-*"), *folder.glob(".old-*")]:
            self._sweep(half)
        try:
            for description in sorted(folder.glob(f"[!.]*/{DESCRIPTION}")):
                self._open(description.parent)
        except BaseException:
            self.close()
            raise

    def __contains__(self, artifact: str) -> bool:
        return artifact in self._opened

    def __getitem__(self, artifact: str) -> Collection:
        return self._opened[artifact]

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

    def close(self) -> None:
        """Close every collection."""
        for collection in self._opened.values():
            collection.close()
        self._opened.clear()

    def _open(self, folder: Path) -> Collection:
        try:
            described = self.describe(folder)
            artifact, engine = str(described["artifact"]), described["engine"]
            if engine != self.engine.name:
                raise InvalidInput(
                    f"`index` must be {engine!r}, which has the vectors of {artifact!r}. Got {self.engine.name!r}. "
                    "Set it back, or start with it once and move the vectors: finetuner index move URL."
                )
            collection = self.engine.open(folder, described["name"], int(described["dim"]))
        except (FinetunerError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the embedded engine raises bare `Exception`, and panics as BaseException
            raise FinetunerServerError(
                f"collection {str(folder)!r} must hold {DESCRIPTION} and the engine's files. Got: {error}. "
                "Restore the folder from a backup, or move it away: the indexer then encodes documents of `live` again."
            ) from error
        self._opened[artifact] = collection
        return collection

    def _sweep(self, half: Path) -> None:
        """Remove a collection that was half created or half dropped when the process was killed."""
        for description in (half / "making.json", half / DESCRIPTION):
            if description.exists():
                described = json.loads(description.read_bytes())
                if described["engine"] == self.engine.name:
                    self.engine.drop(described["name"])
        shutil.rmtree(half)
