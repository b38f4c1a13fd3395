"""Stores marks in one SQLite file: appended, never changed, deleted only by request.

Every mark is on disk when `add` returns. A deleted mark's bytes are overwritten (`secure_delete`), and the write-ahead
log is emptied after a deletion, so no copy stays in these files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuner.contract.marks import Mark
from finetuner.exceptions import AlreadyExists, FinetunerError, FinetunerServerError, InsufficientStorage
from finetuner.workspace.folder import sync_folder

LAYOUT = 1
MOST_MARKS = 1_000_000
MOST_OF_ONE = 200_000
MOST_BYTES = 4 * 2**30
PAGE_BYTES = 8 * 2**20
TABLES = """
CREATE TABLE IF NOT EXISTS marks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, at REAL NOT NULL, user TEXT NOT NULL,
    artifact TEXT NOT NULL, text TEXT NOT NULL, image BLOB, shown TEXT NOT NULL, chosen TEXT NOT NULL,
    refused TEXT NOT NULL, first INTEGER NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS marks_by_user ON marks (user);
"""


@dataclass(frozen=True)
class Marked:
    """A mark with its query."""

    mark: Mark
    text: str
    """'' for an image."""
    image: bytes = b""
    """The image's file, empty for a text."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the whole mark."""
        fixed = json.dumps([self.mark.id, self.text, self.mark.tags()], sort_keys=True)
        return hashlib.sha256(fixed.encode() + b"\0" + self.image).digest()


@dataclass(frozen=True)
class Chosen:
    """A condition on marks; each part that is not None must hold."""

    since: float | None = None
    """Seconds since the epoch; marks of this time or later."""
    user: str | None = None
    """Name of a token; '' for marks of a Flow without tokens."""
    document: str | None = None
    """Id of a document that was shown."""
    ids: tuple[str, ...] | None = None
    """Ids of marks."""

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition in SQL, and its values."""
        parts, values = ["1"], list[Any]()
        if self.since is not None:
            parts, values = [*parts, "at >= ?"], [*values, self.since]
        if self.user is not None:
            parts, values = [*parts, "user = ?"], [*values, self.user]
        if self.document is not None:
            # each id begins its line, see `_lines`; json_each would end an id at a NUL
            parts, values = [*parts, "instr(shown, ?) > 0"], [*values, "\n" + json.dumps(self.document)]
        if self.ids is not None:
            parts, values = [*parts, f"id IN ({', '.join('?' * len(self.ids))})"], [*values, *self.ids]
        return " AND ".join(parts), values


class Marks:
    """The store. Threads may share it.

    Args:
        file: SQLite file, created if missing.
        min_free: free bytes that a write needs.
        most: marks in all.
        most_of_one: marks of one token. A Flow without tokens has one user, who may fill the store.
        most_bytes: of all queries and ids.

    Raises:
        FinetunerServerError: SQLite cannot read the file, or it has another layout.
    """

    def __init__(
        self,
        file: Path,
        min_free: int = 0,
        most: int = MOST_MARKS,
        most_of_one: int = MOST_OF_ONE,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._file, self._min_free = file, min_free
        self._most, self._most_of_one, self._most_bytes = most, most_of_one, most_bytes
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(file, check_same_thread=False)
        try:
            self._open()
        except sqlite3.Error as error:
            self._connection.close()
            raise FinetunerServerError(
                f"{str(file)!r} must be an intact SQLite file. Got: {error}. Restore a copy, or move the file away."
            ) from error
        except FinetunerError:
            self._connection.close()
            raise

    def _open(self) -> None:
        database = self._connection
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        layout = database.execute("PRAGMA user_version").fetchone()[0]
        if layout not in (0, LAYOUT):
            raise FinetunerServerError(
                f"{str(self._file)!r} must have layout {LAYOUT}. Got {layout}. Install the version that wrote it."
            )
        database.executescript(TABLES)
        database.execute(f"PRAGMA user_version = {LAYOUT}")
        database.commit()
        sync_folder(self._file.parent)
        self._count()

    def add(self, marks: Sequence[Marked], user: str) -> list[FinetunerError | None]:
        """Append marks.

        Args:
            marks: in their order.
            user: name of the caller's token, '' without one.

        Returns:
            Per mark: None if it is on disk, now or since an earlier call, or its error: AlreadyExists for the id of
            another mark, InsufficientStorage for a full store.

        Raises:
            InsufficientStorage: the disk is nearly full.
            FinetunerServerError: the disk refuses. No mark of the call is acknowledged.
        """
        self._require_free()
        answers: list[FinetunerError | None] = []
        with self._lock:
            try:
                with self._connection as database:
                    for marked in marks:
                        answers.append(self._add(database, marked, user))
            except sqlite3.Error as error:
                self._count()
                raise FinetunerServerError(
                    f"marks must be written to {str(self._file)!r}. Got: {error}. Send them again: none is "
                    "acknowledged."
                ) from error
        return answers

    def _add(self, database: sqlite3.Connection, marked: Marked, user: str) -> FinetunerError | None:
        known = database.execute("SELECT user, digest FROM marks WHERE id = ?", (marked.mark.id,)).fetchone()
        if known is not None:
            if known == (user, marked.digest):
                return None
            return AlreadyExists(
                f"id of a mark must be new. Got {marked.mark.id!r:.80}, another mark's. Choose another."
            )
        shown, chosen, refused = map(_lines, (marked.mark.shown, marked.mark.chosen, marked.mark.refused))
        size = len(marked.text.encode()) + len(marked.image) + len(shown) + len(chosen) + len(refused)
        of_one = self._most if not user else min(self._most, self._most_of_one)
        if self._marks >= self._most or self._of_user.get(user, 0) >= of_one or self._bytes + size > self._most_bytes:
            return InsufficientStorage(
                f"marks must be at most {self._most} in all, {of_one} of one token, and {self._most_bytes >> 20} MiB. "
                f"Got one more than fits. Export the marks, then delete old ones."
            )
        mark = marked.mark
        row = (mark.id, time.time(), user, mark.artifact, marked.text, marked.image or None, shown, chosen, refused)
        database.execute(
            "INSERT INTO marks (id, at, user, artifact, text, image, shown, chosen, refused, first, size, digest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, mark.offset, size, marked.digest),
        )
        self._marks += 1
        self._bytes += size
        self._of_user[user] = self._of_user.get(user, 0) + 1
        return None

    def page(self, chosen: Chosen, after: int = 0, limit: int = 100, images: bool = False) -> dict[str, Any]:
        """Return a page of marks, oldest first.

        Args:
            chosen: the marks to return.
            after: `next` of the page before.
            limit: highest number of marks. A page also ends after PAGE_BYTES.
            images: whether to return the images of queries.

        Returns:
            {'marks': [...], 'next': number or None}. A mark is {'id', 'at', 'user', 'artifact', 'text', 'image',
            'shown', 'chosen', 'refused', 'offset'}; 'image' is base64, '' for a text, None if it was not asked for.
        """
        where, values = chosen.where()
        columns = f"number, id, at, user, artifact, text, image IS NOT NULL, {'image' if images else 'NULL'}"
        query = f"SELECT {columns}, shown, chosen, refused, first FROM marks WHERE number > ? AND {where} "
        found: list[dict[str, Any]] = []
        left, last = PAGE_BYTES, None
        with self._lock:
            rows = self._connection.execute(f"{query} ORDER BY number LIMIT ?", (after, *values, limit + 1))
            for number, mark_id, at, user, artifact, words, pictured, image, shown, took, refused, offset in rows:
                left -= len(words) * 4 + len(image or b"") * 2 + len(shown) * 2
                if len(found) == limit or (found and left < 0):
                    rows.close()
                    return {"marks": found, "next": last}
                content = base64.b64encode(image or b"").decode() if images or not pictured else None
                found.append({
                    "id": mark_id, "at": at, "user": user, "artifact": artifact, "text": words, "image": content,
                    "shown": json.loads(shown), "chosen": json.loads(took), "refused": json.loads(refused),
                    "offset": offset,
                })  # fmt: skip
                last = number
        return {"marks": found, "next": None}

    def delete(self, chosen: Chosen) -> int:
        """Delete marks. Return their number. They are gone from the disk when the call returns."""
        where, values = chosen.where()
        with self._lock:
            try:
                with self._connection as database:
                    deleted = database.execute(f"DELETE FROM marks WHERE {where}", values).rowcount
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                raise FinetunerServerError(
                    f"marks must be deleted from {str(self._file)!r}. Got: {error}. Try again."
                ) from error
            finally:
                self._count()
        return deleted

    def counts(self) -> Mapping[str, int]:
        """Return the number of marks of each user."""
        return dict(self._of_user)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _count(self) -> None:
        """Count what is on disk: a transaction may have been rolled back."""
        rows = self._connection.execute("SELECT user, count(*), sum(size) FROM marks GROUP BY user").fetchall()
        self._of_user = {user: int(number) for user, number, _ in rows}
        self._marks, self._bytes = sum(self._of_user.values()), sum(int(size) for *_, size in rows)

    def _require_free(self) -> None:
        free = shutil.disk_usage(self._file.parent).free
        if free < self._min_free:
            raise InsufficientStorage(
                f"the disk of the marks must have {self._min_free >> 20} MiB free. Got {free >> 20}. Make room."
            )


def _lines(ids: Sequence[str]) -> str:
    """Return ids as JSON, each on its own line."""
    return json.dumps(ids, indent=0)
