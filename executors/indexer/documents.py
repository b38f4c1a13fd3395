"""The documents' content, in one SQLite file: id -> the document without its vector.

Kept so that matches come back with what was indexed, and so that a new artifact can encode everything again.
One content per id, shared by all collections.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from docarray import Document

from finetuner.exceptions import InvalidDocument
from finetuner.wire import ARTIFACT_TAG
from finetuner.workspace import sync_folder

# Not content: a vector lives in the collection of its artifact, and the rest is some search's outcome.
NOT_CONTENT = ("embedding", "matches", "scores", "evaluations")


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """One document as it is stored.

    `tags` is the protobuf message with id and tags alone, `content` the one with everything else. A message
    may be cut anywhere between its fields, so `tags + content` is the whole document again.
    """

    id: str
    tags: bytes
    content: bytes


def pack(document: Document) -> PackedDocument:
    """Return the document as it is stored; the argument stays as it is.

    Raises:
        InvalidDocument: an empty id, or something in it that protobuf cannot hold.
    """
    if not document.id:
        raise InvalidDocument("a document must have an id. Got an empty one. Set it or leave it to DocArray.")
    try:
        message = document.to_protobuf()
        for field in NOT_CONTENT:
            message.ClearField(field)
        # Which artifact a vector is of is the collection's to say; one document may be in several.
        message.tags.fields.pop(ARTIFACT_TAG, None)
        light = type(message)(id=message.id, tags=message.tags)
        message.ClearField("id")
        message.ClearField("tags")
        packed = PackedDocument(document.id, light.SerializeToString(), message.SerializeToString())
        # a NaN tag can be written but not read: better refused once than failing every search that finds it
        unpack(packed.tags)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDocument(
            f"a document must be what protobuf can hold. Got {error}. Tags take strings, finite numbers, "
            "booleans, lists and mappings of these."
        ) from error
    return packed


def unpack(packed: bytes) -> Document:
    """Return the document of `PackedDocument.tags`, or of `tags + content`."""
    return Document.from_bytes(packed, protocol="protobuf")


class Documents:
    """The store. Safe to use from several threads; every change is on disk when its call returns.

    Args:
        file: SQLite file, made where it is not there yet.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(file, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        # content comes last, so that SQLite reads id and tags without walking through a picture's pages
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, tags BLOB NOT NULL, content BLOB NOT NULL)"
        )
        self._connection.commit()
        sync_folder(file.parent)

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM documents").fetchone()[0])

    def put(self, documents: Iterable[PackedDocument]) -> None:
        """Store documents, each in the place of the one with its id."""
        rows = [(document.id, document.tags, document.content) for document in documents]
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)

    def get(self, document_id: str, content: bool) -> bytes | None:
        """Return a document for `unpack`: whole, or id and tags alone; None where it is not there."""
        columns = "tags, content" if content else "tags"
        with self._lock:
            row = self._connection.execute(f"SELECT {columns} FROM documents WHERE id = ?", (document_id,)).fetchone()
        return None if row is None else b"".join(row)

    def delete(self, ids: Iterable[str]) -> int:
        """Forget documents; return how many were there."""
        with self._lock, self._connection:
            return self._connection.executemany(
                "DELETE FROM documents WHERE id = ?", [(document_id,) for document_id in ids]
            ).rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
