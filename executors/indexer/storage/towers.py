"""The tower that made each vector, so that a vector may serve a later artifact with the same tower.

tower_of   id, artifact, version, tower     the version of the document that the tower encoded

A row counts only while `encoded` has the same version without an error. A version of this software that does not know
the table leaves rows behind that never match again. A vector without a row is encoded again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence

TABLE = """
CREATE TABLE IF NOT EXISTS tower_of (
    id TEXT, artifact TEXT, version INTEGER NOT NULL, tower TEXT NOT NULL, PRIMARY KEY (artifact, id)) WITHOUT ROWID;
"""


# SQLite binds at least this many values in one statement, beside the artifact.
READ_AT_ONCE = 900


class Towers:
    """The table. Threads may share it.

    Args:
        connection: to the file of the documents.
        lock: of the connection.
    """

    def __init__(self, connection: sqlite3.Connection, lock: threading.Lock) -> None:
        self._connection = connection
        self._lock = lock
        with lock, connection as database:
            database.execute(TABLE)

    def mark(self, artifact: str, versions: Mapping[str, int], towers: Mapping[str, str]) -> None:
        """Record the towers of an artifact's new vectors.

        Args:
            artifact: id of the artifact.
            versions: of the documents that were encoded, by id.
            towers: by id; '' or a missing id is a tower that is not known.
        """
        rows = [(key, artifact, version, towers[key]) for key, version in versions.items() if towers.get(key)]
        lost = [(artifact, key) for key in versions if not towers.get(key)]
        with self._lock, self._connection as database:
            database.executemany("INSERT OR REPLACE INTO tower_of VALUES (?, ?, ?, ?)", rows)
            database.executemany("DELETE FROM tower_of WHERE artifact = ? AND id = ?", lost)

    def of(self, artifact: str, ids: Sequence[str]) -> dict[str, str]:
        """Return the tower that made each vector, by the document's id, where it is known.

        Args:
            artifact: with the vectors.
            ids: of documents that have a vector.
        """
        found: dict[str, str] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            some = ids[start : start + READ_AT_ONCE]
            query = f"SELECT id, tower FROM tower_of WHERE artifact = ? AND id IN ({', '.join('?' * len(some))})"
            with self._lock:
                found |= dict(self._connection.execute(query, (artifact, *some)).fetchall())
        return found

    def encoded_by(self, artifact: str, towers: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Return version and tower of each document of `live` whose current version one of the towers has encoded.

        Args:
            artifact: with the vectors.
            towers: of 'clip-text' and 'clip-vision'.
        """
        marks = ", ".join("?" * len(towers))
        query = (
            "SELECT d.id, d.version, t.tower FROM tower_of AS t "
            "JOIN encoded AS e ON e.id = t.id AND e.artifact = t.artifact AND e.version = t.version "
            "JOIN documents AS d ON d.id = t.id AND d.version = t.version "
            f"WHERE t.artifact = ? AND t.tower IN ({marks}) AND e.error IS NULL AND d.live"
        )
        with self._lock:
            rows = self._connection.execute(query, (artifact, *towers)).fetchall()
        return {key: (int(version), str(tower)) for key, version, tower in rows}
