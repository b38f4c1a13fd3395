"""The words of the stored documents, read from their file when a hybrid search asks for a field.

Words are kept in memory, one `FieldWords` for each field that was asked for. A search first reads what was written
since, and forgets what was deleted: writes do nothing for it, so indexing costs nothing more.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docarray import Document

from finetuner.contract.search_parameters import TEXT_FIELD
from finetuner.exceptions import FinetunerError, InvalidDocument
from finetuner.executors.indexer.ranking.tags import value_of
from finetuner.executors.indexer.ranking.words import FieldWords
from finetuner.executors.indexer.storage.packing import unpack

# Documents whose words are kept.
MAX_DOCUMENTS = 500_000
# Fields whose words are kept; the least recently asked one is forgotten.
MAX_FIELDS = 64
# Rows in memory at once: with their contents, which may be images.
READ_AT_ONCE = 100
WITH_CONTENT = "SELECT version, id, tags, coalesce(content, x'') FROM documents LEFT JOIN contents USING (hash)"
TAGS = "SELECT version, id, tags, x'' FROM documents"


class Texts:
    """The words of fields. One thread at a time reads.

    Args:
        file: the SQLite file of the documents, which `Documents` has open.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._fields: dict[str, tuple[FieldWords, dict[str, int]]] = {}
        self._read_to: dict[str, int] = {}

    def scores(self, fields: Sequence[str], query: Sequence[str]) -> dict[str, float]:
        """Return the sum over the fields of each document's BM25 score, without those that score 0.

        Args:
            fields: TEXT_FIELD or names of tags.
            query: words.

        Raises:
            FinetunerError: more documents than memory is meant for.
        """
        total: dict[str, float] = {}
        with self._lock:
            for field in fields:
                for document_id, score in self._current(field).scores(query).items():
                    total[document_id] = total.get(document_id, 0.0) + score
        return total

    def frequency(self, fields: Sequence[str], word: str) -> int:
        """Return the number of documents that have a word in a field, the highest of all fields.

        Raises:
            FinetunerError: see `scores`.
        """
        with self._lock:
            return max(self._current(field).frequency(word) for field in fields)

    def _current(self, field: str) -> FieldWords:
        """Return the words of a field as the file has them now."""
        held, versions = self._fields.pop(field, None) or (FieldWords(), {})
        read_to = self._read_to.pop(field, 0)
        connection = sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=ro", uri=True)
        try:
            connection.execute("BEGIN")  # one moment for all that is read here
            (count,) = connection.execute("SELECT count(*) FROM documents").fetchone()
            if count > MAX_DOCUMENTS:
                raise FinetunerError(
                    f"hybrid must have {MAX_DOCUMENTS} documents at most in the index. Got {count}. Search without it."
                )
            for version, document_id, texts in _texts(connection, field, read_to):
                read_to = version
                held.put(document_id, texts)
                versions[document_id] = version
            if len(versions) != count:
                known = {row[0] for row in connection.execute("SELECT id FROM documents")}
                for document_id in [each for each in versions if each not in known]:
                    held.remove(document_id)
                    del versions[document_id]
        finally:
            connection.close()
        self._fields[field], self._read_to[field] = (held, versions), read_to
        while len(self._fields) > MAX_FIELDS:
            del self._read_to[oldest := next(iter(self._fields))]
            del self._fields[oldest]
        return held


def _texts(connection: sqlite3.Connection, field: str, after: int) -> Iterator[tuple[int, str, list[str]]]:
    """Yield version, id and texts of each document written after a version, oldest first."""
    query = WITH_CONTENT if field == TEXT_FIELD else TAGS
    while rows := connection.execute(
        f"{query} WHERE version > ? ORDER BY version LIMIT ?", (after, READ_AT_ONCE)
    ).fetchall():
        for version, document_id, tags, content in rows:
            after = version
            try:
                document = unpack(tags + content, document_id)
            except InvalidDocument:
                yield version, document_id, []
                continue
            yield version, document_id, own_texts(document) if field == TEXT_FIELD else tag_texts(document.tags, field)


def own_texts(document: Document) -> list[str]:
    """Return the texts of a document and of its chunks."""
    return [part.text for part in (document, *document.chunks) if part.text]


def tag_texts(tags: Mapping[str, Any], field: str) -> list[str]:
    """Return the texts of a tag: one, or those in a list."""
    value = value_of(tags, field)
    return [entry for entry in (value if isinstance(value, list | tuple) else [value]) if isinstance(entry, str)]
