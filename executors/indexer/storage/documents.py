"""Stores documents: their content, their versions, and the versions that each artifact has encoded.

Matches return the stored content, and a re-index encodes it with a new artifact. Each id has one content, shared by all
collections.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuner.executors.indexer.storage.database import open_database
from finetuner.executors.indexer.storage.fields import Field
from finetuner.executors.indexer.storage.packing import PackedDocument
from finetuner.executors.indexer.storage.towers import Towers

# Documents of `live` whose current version has neither a vector of the artifact nor an error.
PENDING = """
FROM documents AS d LEFT JOIN encoded AS e ON e.artifact = ? AND e.id = d.id
WHERE d.live AND d.version > ? AND (e.version IS NULL OR e.version != d.version)
"""

# Stores a content once; a damaged one is replaced.
CONTENT = """
INSERT INTO contents VALUES (?, ?)
ON CONFLICT (hash) DO UPDATE SET content = excluded.content WHERE content != excluded.content
"""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One version of a document."""

    version: int
    id: str
    packed: bytes
    """Input of `unpack`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of an artifact's re-index over the documents of `live`."""

    documents: int
    done: int
    left_out: int


class Documents:
    """The store. Threads may share it. Every change is on disk when its call returns.

    Args:
        file: SQLite file, created if missing; see `open_database`.

    Raises:
        FinetunerServerError: SQLite cannot read the file, or it has another layout.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._connection = open_database(file)
        self.towers = Towers(self._connection, self._lock)
        self._damaged: dict[str, None] = {}

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM documents"))

    def note_damage(self, document_id: str) -> None:
        """Take note of a document that cannot be read."""
        self._damaged[document_id] = None

    def problems(self) -> list[str]:
        """Return a sentence if documents could not be read since the opening, else nothing."""
        known = list(self.versions(list(self._damaged)))
        if not known:
            return []
        return [
            f"documents must be readable. Got {len(known)} that are not, such as {known[0]!r:.200}; answers leave them "
            "out. Index them again, or delete them."
        ]

    def put(self, documents: Iterable[PackedDocument], live: bool) -> dict[str, int]:
        """Store documents. Each replaces the document with its id.

        Args:
            documents: no id twice.
            live: whether they belong to `live`. A document of `live` stays one.

        Returns:
            The new version of each id.
        """
        versions, replaced = {}, []
        with self._lock, self._connection as database:
            for document in documents:
                digest = hashlib.sha256(document.content).digest()
                row = database.execute("SELECT live, hash FROM documents WHERE id = ?", (document.id,)).fetchone()
                was_live, old = row or (False, None)
                if old is not None and old != digest:
                    replaced.append(old)
                if database.execute(CONTENT, (digest, document.content)).rowcount:
                    database.execute("DELETE FROM previews WHERE hash = ?", (digest,))
                cursor = database.execute(
                    "INSERT OR REPLACE INTO documents (id, live, tags, hash) VALUES (?, ?, ?, ?)",
                    (document.id, live or was_live, document.tags, digest),
                )
                versions[document.id] = int(cursor.lastrowid or 0)
                self._damaged.pop(document.id, None)
            self._sweep(replaced)
        return versions

    def get(self, ids: Sequence[str], content: bool, most_bytes: float = math.inf) -> dict[str, bytes]:
        """Return the known documents, packed: whole, or only id and tags.

        Args:
            ids: no id twice.
            content: whether to return whole documents.
            most_bytes: reading stops after this many bytes.
        """
        query = "SELECT id, tags, content FROM documents JOIN contents USING (hash)"
        if not content:
            query = "SELECT id, tags, x'' FROM documents"
        found = {}
        with self._lock:
            rows = self._connection.execute(f"{query} WHERE id IN ({', '.join('?' * len(ids))})", ids)
            for document_id, tags, rest in rows:
                found[document_id] = tags + rest
                most_bytes -= len(found[document_id])
                if most_bytes < 0:
                    rows.close()
                    break
        return found

    def get_small(
        self, ids: Sequence[str], small: Callable[[bytes], bytes], most_bytes: float = math.inf
    ) -> dict[str, bytes]:
        """Return the known documents, packed, with a preview instead of the content.

        Args:
            ids: no id twice.
            small: makes the preview of a content. Each preview is made once and stored.
            most_bytes: as for `get`.
        """
        found: dict[str, bytes] = {}
        made: dict[bytes, bytes] = {}
        for document_id in ids:  # one at a time: all contents together may not fit into memory
            with self._lock:
                row = self._connection.execute(
                    "SELECT tags, hash, preview, iif(preview IS NULL, content, NULL) FROM documents "
                    "JOIN contents USING (hash) LEFT JOIN previews USING (hash) WHERE id = ?",
                    (document_id,),
                ).fetchone()
            if row is None:
                continue
            tags, digest, preview, content = row
            if preview is None:
                preview = made[digest] = made.get(digest) or small(content)
            found[document_id] = tags + preview
            most_bytes -= len(found[document_id])
            if most_bytes < 0:
                break
        if made:
            with (
                suppress(sqlite3.OperationalError),
                self._lock,
                self._connection as database,
            ):  # a full disk stores none
                database.executemany(
                    "INSERT OR IGNORE INTO previews "
                    "SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM contents WHERE hash = ?1)",
                    made.items(),
                )
        return found

    def versions(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the current version of each known id."""
        found = {}
        with self._lock:
            for document_id in ids:
                row = self._connection.execute("SELECT version FROM documents WHERE id = ?", (document_id,)).fetchone()
                if row is not None:
                    found[document_id] = int(row[0])
        return found

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents. Return the number of deleted ones."""
        deleted, hashes = 0, []
        with self._lock, self._connection as database:
            for document_id in ids:
                rows = database.execute("DELETE FROM documents WHERE id = ? RETURNING hash", (document_id,)).fetchall()
                database.execute("DELETE FROM encoded WHERE id = ?", (document_id,))
                deleted += len(rows)
                hashes += [row[0] for row in rows]
            self._sweep(hashes)
        return deleted

    def mark(self, artifact: str, versions: Mapping[str, int], errors: Mapping[str, str] | None = None) -> None:
        """Record the versions that the artifact has vectors of, or the error of each version that it cannot encode."""
        rows = [(key, artifact, version, (errors or {}).get(key)) for key, version in versions.items()]
        with self._lock, self._connection as database:
            database.executemany("INSERT OR REPLACE INTO encoded VALUES (?, ?, ?, ?)", rows)

    def pending(self, artifact: str, after: int, limit: int, most_bytes: int) -> list[StoredDocument]:
        """Return documents of `live` that wait for a vector of an artifact, oldest version first.

        Args:
            artifact: id of the artifact.
            after: return only later versions.
            limit: maximum number of documents.
            most_bytes: maximum bytes; a single document may be larger.
        """
        found: list[StoredDocument] = []
        left = most_bytes
        with self._lock:
            rows = self._connection.execute(
                f"SELECT d.version, d.id {PENDING} ORDER BY d.version LIMIT ?", (artifact, after, limit)
            ).fetchall()
            for version, document_id in rows:
                packed = b"".join(
                    self._connection.execute(
                        "SELECT tags, coalesce(content, x'00') FROM documents LEFT JOIN contents USING (hash) "  # x'00'
                        "WHERE version = ?",  # is no protobuf
                        (version,),
                    ).fetchone()
                )
                left -= len(packed)
                if found and left < 0:
                    break
                found.append(StoredDocument(version, document_id, packed))
        return found

    def progress(self, artifact: str) -> Progress:
        """Return the counts of an artifact's re-index."""
        documents = int(self._one("SELECT count(*) FROM documents WHERE live"))
        waiting = int(self._one(f"SELECT count(*) {PENDING}", artifact, 0))
        left_out = int(
            self._one(
                "SELECT count(*) FROM encoded AS e JOIN documents AS d ON d.id = e.id AND d.version = e.version "
                "WHERE e.artifact = ? AND e.error IS NOT NULL AND d.live",
                artifact,
            )
        )
        return Progress(documents, documents - waiting - left_out, left_out)

    def first_error(self, artifact: str) -> str:
        """Return the error of the first document that the artifact cannot encode, or ''."""
        return str(
            self._one(
                "SELECT coalesce(min(id || ': ' || error), '') FROM encoded WHERE artifact = ? AND error IS NOT NULL",
                artifact,
            )
        )

    def make_live(self, artifact: str) -> None:
        """Make every document with a vector of the artifact a document of `live`."""
        with self._lock, self._connection as database:
            database.execute(
                "UPDATE documents SET live = 1 WHERE NOT live AND id IN "
                "(SELECT id FROM encoded WHERE artifact = ? AND error IS NULL)",
                (artifact,),
            )

    def forget(self, artifact: str, only_errors: bool = False) -> None:
        """Delete an artifact's record of encoded versions, or only its errors."""
        which = " AND error IS NOT NULL" if only_errors else ""
        with self._lock, self._connection as database:
            database.execute(f"DELETE FROM encoded WHERE artifact = ?{which}", (artifact,))

    def missing(self, artifact: str, ids: Sequence[str]) -> list[str]:
        """Return the ids without a document or without a vector of the artifact."""
        with self._lock:
            return [
                document_id
                for document_id in ids
                if self._connection.execute(
                    "SELECT 1 FROM documents JOIN encoded USING (id) WHERE id = ? AND artifact = ? AND error IS NULL",
                    (document_id, artifact),
                ).fetchone()
                is None
            ]

    def artifacts(self) -> list[str]:
        """Return the artifacts with at least one vector."""
        with self._lock:
            query = "SELECT DISTINCT artifact FROM encoded WHERE error IS NULL"
            return [row[0] for row in self._connection.execute(query)]

    def unmark(self, artifact: str, ids: Iterable[str]) -> None:
        """Record that the artifact has no vectors of these documents."""
        with self._lock, self._connection as database:
            database.executemany(
                "DELETE FROM encoded WHERE id = ? AND artifact = ?", [(document_id, artifact) for document_id in ids]
            )

    def encoded_ids(self, artifact: str, after: str, limit: int) -> list[str]:
        """Return the next ids, in order, of documents with a vector of the artifact."""
        query = "SELECT id FROM encoded WHERE artifact = ? AND error IS NULL AND id > ? ORDER BY id LIMIT ?"
        with self._lock:
            return [row[0] for row in self._connection.execute(query, (artifact, after, limit))]

    def add_fields(self, fields: Iterable[Field]) -> None:
        """Record fields."""
        rows = [(field.name, field.path, field.kind) for field in fields]
        with self._lock, self._connection as database:
            database.executemany("INSERT OR IGNORE INTO fields VALUES (?, ?, ?)", rows)

    def fields(self) -> tuple[list[Field], list[str]]:
        """Return every field, and one sentence for each row that is none. Such a row is deleted."""
        fields, problems = [], []
        with self._lock, self._connection as database:
            for row in database.execute("SELECT name, path, kind FROM fields").fetchall():
                try:
                    fields.append(Field.read(*row))
                except ValueError as error:
                    database.execute("DELETE FROM fields WHERE name IS ? AND path IS ? AND kind IS ?", row)
                    problems.append(str(error))
        return fields, problems

    def check(self) -> str:
        """Return 'ok', or the damage that SQLite finds."""
        return str(self._one("PRAGMA integrity_check(1)"))

    def copy_to(self, file: Path) -> None:
        """Write a consistent copy of the file while other threads read and write."""
        target = sqlite3.connect(file)
        with self._lock:
            self._connection.backup(target)
        target.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _one(self, query: str, *values: Any) -> Any:
        with self._lock:
            return self._connection.execute(query, values).fetchone()[0]

    def _sweep(self, hashes: Iterable[bytes]) -> None:
        gone = [(digest,) for digest in hashes]
        for table in ("contents", "previews"):
            self._connection.executemany(
                f"DELETE FROM {table} WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM documents WHERE hash = ?1)", gone
            )
