"""Stores marks in one SQLite file, or in a database server: appended, never changed, deleted only by request.

Every mark is on disk when `add` returns. In the file, a deleted mark's bytes are overwritten (`secure_delete`), and the
write-ahead log is emptied after a deletion, so no copy stays in these files.
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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from finetuner.contract.marks import Mark
from finetuner.database.dialects import position
from finetuner.database.engine import Database
from finetuner.database.tables import MARKS
from finetuner.exceptions import (
    AlreadyExists,
    DatabaseUnreachable,
    FinetunerError,
    FinetunerServerError,
    InsufficientStorage,
)
from finetuner.workspace.folder import sync_folder

LAYOUT = 1
MOST_MARKS = 1_000_000
MOST_OF_ONE = 200_000
MOST_BYTES = 4 * 2**30
PAGE_BYTES = 8 * 2**20
LOCK = 0x6D61726B  # 'mark': of a server's transactions that add marks, so that numbers grow in the order of commits


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

    def where(self) -> list[sa.ColumnElement[bool]]:
        """Return the parts that must hold, in SQL."""
        parts: list[sa.ColumnElement[bool]] = []
        if self.since is not None:
            parts.append(MARKS.c.at >= self.since)
        if self.user is not None:
            parts.append(MARKS.c.user == self.user)
        if self.document is not None:
            # each id begins its line, see `_lines`; json_each would end an id at a NUL
            parts.append(position(MARKS.c.shown, sa.literal("\n" + json.dumps(self.document))) > 0)
        if self.ids is not None:
            parts.append(MARKS.c.id.in_(self.ids))
        return parts


class Marks:
    """The store. Threads may share it.

    Args:
        database: SQLite file, created if missing, or the database of a server.
        min_free: free bytes that a write to a file needs.
        most: marks in all.
        most_of_one: marks of one token. A Flow without tokens has one user, who may fill the store.
        most_bytes: of all queries and ids.

    Raises:
        FinetunerServerError: SQLite cannot read the file, or it has another layout.
        DatabaseUnreachable: the server is away.
    """

    def __init__(
        self,
        database: Database | Path,
        min_free: int = 0,
        most: int = MOST_MARKS,
        most_of_one: int = MOST_OF_ONE,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._min_free = min_free
        self._most, self._most_of_one, self._most_bytes = most, most_of_one, most_bytes
        self._lock = threading.Lock()
        self._file = database if isinstance(database, Path) else None
        if isinstance(database, Path):
            database.parent.mkdir(parents=True, exist_ok=True)
            database = Database.embedded_file(database, "secure_delete=ON", alone=True)
        self._database = database
        try:
            self._open()
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            database.close()
            raise FinetunerServerError(
                f"{self._named} must be an intact SQLite file. Got: {_reason(error)}. Restore a copy, or move the file "
                "away."
            ) from error
        except FinetunerError:
            database.close()
            raise

    @property
    def _named(self) -> str:
        return self._database.name if self._file is None else repr(str(self._file))

    def _open(self) -> None:
        if self._file is not None:
            with self._database.begin() as connection:
                layout = connection.execute(sa.text("PRAGMA user_version")).scalar_one()
                if layout not in (0, LAYOUT):
                    raise FinetunerServerError(
                        f"{self._named} must have layout {LAYOUT}. Got {layout}. Install the version that wrote it."
                    )
                MARKS.create(connection, checkfirst=True)
                connection.execute(sa.text(f"PRAGMA user_version = {LAYOUT}"))
            sync_folder(self._file.parent)
        with self._database.connect() as connection:
            self._count(connection)

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
            DatabaseUnreachable: the server is away. No mark of the call is acknowledged.
        """
        self._require_free()
        answers: list[FinetunerError | None] = []
        with self._lock:
            try:
                with self._database.begin() as connection:
                    if self._file is None:  # another process may add and delete as well
                        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                        self._count(connection)
                    for marked in marks:
                        answers.append(self._add(connection, marked, user))
            except (sa.exc.DBAPIError, DatabaseUnreachable) as error:
                self._recount()
                if isinstance(error, DatabaseUnreachable):
                    raise
                raise FinetunerServerError(
                    f"marks must be written to {self._named}. Got: {_reason(error)}. Send them again: none is "
                    "acknowledged."
                ) from error
        return answers

    def _add(self, connection: sa.Connection, marked: Marked, user: str) -> FinetunerError | None:
        same = sa.select(MARKS.c.user, MARKS.c.digest).where(MARKS.c.id == marked.mark.id)
        known = connection.execute(same).first()
        if known is not None:
            if (known.user, bytes(known.digest)) == (user, marked.digest):
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
        row = {
            "id": mark.id, "at": time.time(), "user": user, "artifact": mark.artifact, "text": marked.text,
            "image": marked.image or None, "shown": shown, "chosen": chosen, "refused": refused, "first": mark.offset,
            "size": size, "digest": marked.digest,
        }  # fmt: skip
        connection.execute(sa.insert(MARKS).values(row))
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
        image = MARKS.c.image if images else sa.null()
        columns = [column for column in MARKS.c if column.name not in ("image", "size", "digest")]
        query = sa.select(*columns, MARKS.c.image.is_not(None).label("pictured"), image.label("image"))
        query = query.where(MARKS.c.number > after, *chosen.where()).order_by(MARKS.c.number).limit(limit + 1)
        found: list[dict[str, Any]] = []
        left, last = PAGE_BYTES, None
        with self._lock, self._database.connect() as connection:
            # a cursor: a page ends by its bytes, so not all of these rows are wanted
            for row in connection.execution_options(stream_results=True, yield_per=20).execute(query):
                content = bytes(row.image or b"")
                left -= len(row.text) * 4 + len(content) * 2 + len(row.shown) * 2
                if len(found) == limit or (found and left < 0):
                    return {"marks": found, "next": last}
                shown_image = base64.b64encode(content).decode() if images or not row.pictured else None
                found.append({
                    "id": row.id, "at": row.at, "user": row.user, "artifact": row.artifact, "text": row.text,
                    "image": shown_image, "shown": json.loads(row.shown), "chosen": json.loads(row.chosen),
                    "refused": json.loads(row.refused), "offset": row.first,
                })  # fmt: skip
                last = row.number
        return {"marks": found, "next": None}

    def delete(self, chosen: Chosen) -> int:
        """Delete marks. Return their number. They are gone from the disk when the call returns."""
        with self._lock:
            try:
                with self._database.begin() as connection:
                    deleted = connection.execute(sa.delete(MARKS).where(*chosen.where())).rowcount
                if self._file is not None:
                    with self._database.connect() as connection:
                        connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
            except sa.exc.DBAPIError as error:
                raise FinetunerServerError(
                    f"marks must be deleted from {self._named}. Got: {_reason(error)}. Try again."
                ) from error
            finally:
                self._recount()
        return deleted

    def counts(self) -> Mapping[str, int]:
        """Return the number of marks of each user."""
        return dict(self._of_user)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _recount(self) -> None:
        with suppress(DatabaseUnreachable), self._database.connect() as connection:
            self._count(connection)

    def _count(self, connection: sa.Connection) -> None:
        """Count what is stored: a transaction may have been rolled back."""
        grouped = sa.select(MARKS.c.user, sa.func.count(), sa.func.sum(MARKS.c.size)).group_by(MARKS.c.user)
        rows = connection.execute(grouped).all()
        self._of_user = {user: int(number) for user, number, _ in rows}
        self._marks, self._bytes = sum(self._of_user.values()), sum(int(size) for *_, size in rows)

    def _require_free(self) -> None:
        if self._file is None:
            return
        free = shutil.disk_usage(self._file.parent).free
        if free < self._min_free:
            raise InsufficientStorage(
                f"the disk of the marks must have {self._min_free >> 20} MiB free. Got {free >> 20}. Make room."
            )


def _lines(ids: Sequence[str]) -> str:
    """Return ids as JSON, each on its own line."""
    return json.dumps(ids, indent=0)


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
