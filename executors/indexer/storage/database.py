"""The SQLite file of an index: its tables, its layout version, and how it is opened.

documents   version, id, live, tags, hash     every write gives a document a higher version
contents    hash, content                     equal contents are stored once
previews    hash, preview                     contents with small images, made on request
encoded     id, artifact, version, error      the version that an artifact's vector was made from, or its error
fields      name, path, kind                  the fields that filters may name
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from finetuner.exceptions import FinetunerServerError, InvalidDocument
from finetuner.executors.indexer.storage.fields import MAX_FIELDS, Field, fields_of
from finetuner.executors.indexer.storage.packing import unpack
from finetuner.workspace.folder import sync_folder

LAYOUT = 3
# Layout 2 kept one path for each name and kind, and lost the others.
FIELDS = """
CREATE TABLE IF NOT EXISTS fields (
    name TEXT, path TEXT, kind TEXT, PRIMARY KEY (name, path, kind)) WITHOUT ROWID;
"""
FROM_LAYOUT_2 = f"""
BEGIN;
ALTER TABLE fields RENAME TO fields_2;
{FIELDS}
INSERT OR IGNORE INTO fields SELECT name, path, kind FROM fields_2;
DROP TABLE fields_2;
PRAGMA user_version = {LAYOUT};
COMMIT;
"""
TABLES = f"""
CREATE TABLE IF NOT EXISTS documents (
    version INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, live INTEGER NOT NULL, tags BLOB NOT NULL,
    hash BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS documents_by_hash ON documents (hash);
CREATE TABLE IF NOT EXISTS contents (hash BLOB PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS previews (hash BLOB PRIMARY KEY, preview BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS encoded (
    id TEXT, artifact TEXT, version INTEGER NOT NULL, error TEXT, PRIMARY KEY (id, artifact)) WITHOUT ROWID;
{FIELDS}"""


def open_database(file: Path) -> sqlite3.Connection:
    """Return a connection that several threads may share under a lock. Every commit is on disk.

    Args:
        file: created if missing.

    Raises:
        FinetunerServerError: SQLite cannot read the file, or it has another layout.
    """
    connection = sqlite3.connect(file, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and layout == 2:
            connection.executescript(FROM_LAYOUT_2)
            _add_lost_fields(connection)
        elif tables and layout != LAYOUT:
            raise FinetunerServerError(
                f"{str(file)!r} must have layout {LAYOUT}. Got {layout}. Move the folder away and index again."
            )
        connection.executescript(TABLES)
        connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.commit()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise FinetunerServerError(
            f"{str(file)!r} must be an intact SQLite file on a disk with free space. Got: {error}. "
            "Make room, or restore the index from a backup."
        ) from error
    except FinetunerServerError:
        connection.close()
        raise
    sync_folder(file.parent)
    return connection


def _add_lost_fields(connection: sqlite3.Connection) -> None:
    found: set[Field] = set()
    for (tags,) in connection.execute("SELECT tags FROM documents"):
        with suppress(InvalidDocument):  # it is reported where it is read
            found.update(fields_of(unpack(tags).tags))
        if len(found) >= MAX_FIELDS:
            break
    rows = [(field.name, field.path, field.kind) for field in found]
    connection.executemany("INSERT OR IGNORE INTO fields VALUES (?, ?, ?)", rows)
