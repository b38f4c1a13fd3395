"""Fields: the tags that filters may name, and their form in the engines.

A field is named by its keys, joined by dots: {"size": {"eu": 42}} has the field `size.eu`, which engines store as
`tags.size.eu`. {"size.eu": 42} has the same name and another path, `tags."size.eu"`; a filter reads both. Texts,
numbers and booleans are fields, alone or in lists. A list matches if one element matches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG
from finetuner.exceptions import InvalidDocument
from finetuner.executors.indexer.engines.edge_filter import is_path
from finetuner.executors.indexer.engines.engine import NUMBER, TEXT

BOOLEAN = "boolean"
# Limit of one document's tags as JSON: an engine reads them for each filter.
MAX_TAGS_BYTES = 64 * 1024
# Fields that are recorded. Names and types of further fields are not checked.
MAX_FIELDS = 1000
# The first fields have an index in each collection. Filters on the others read the tags.
INDEXED_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Field:
    """One field with one path and one kind of value. A field with two kinds, or two paths, has two entries."""

    name: str
    """Name in filters: 'size.eu'."""
    path: str
    """Name in engines: 'tags.size.eu'."""
    kind: str
    """TEXT, NUMBER or BOOLEAN."""

    @classmethod
    def read(cls, *row: Any) -> Field:
        """Return the field of a stored row.

        Raises:
            ValueError: no field has these values, or no engine can read its path.
        """
        field = cls(*row)
        if not isinstance(field.name, str) or field.kind not in (TEXT, NUMBER, BOOLEAN) or not is_path(field.path):
            raise ValueError(
                f"tag {field.name!r:.200} must have a path that the engine can read. Got {field.path!r:.200}. "
                "It is set aside: its documents are there, and no filter can name it."
            )
        return field

    @property
    def stored(self) -> str:
        """The engine's kind: booleans are stored as the texts 'true' and 'false'."""
        return NUMBER if self.kind == NUMBER else TEXT


def filterable(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's tags as engines store them.

    Booleans become texts: the embedded engine compares True as 1 and finds nothing.

    Raises:
        InvalidDocument: the tags take more than 64 KiB as JSON.
    """
    kept = {key: _plain(value) for key, value in tags.items() if key not in (ARTIFACT_TAG, ERROR_TAG)}
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    if size > MAX_TAGS_BYTES:
        raise InvalidDocument(
            f"a document's tags must take {MAX_TAGS_BYTES} bytes at most as JSON. Got {size} in {len(kept)} tags. "
            "Keep only tags that filters use; put the rest into `text` or a chunk."
        )
    return kept


def fields_of(tags: Mapping[str, Any]) -> Iterator[Field]:
    """Yield the fields of a document's original tags; booleans keep their kind."""
    for key, value in tags.items():
        if key not in (ARTIFACT_TAG, ERROR_TAG) and _has_path(key):
            yield from _fields(key, path_of(key), value)


def _fields(name: str, path: str, value: Any) -> Iterator[Field]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _has_path(key):
                yield from _fields(f"{name}.{key}", f"{path}.{_quoted(key)}", inner)
    elif isinstance(value, str | bool | int | float):
        yield Field(name, path, _kind(value))
    elif isinstance(value, list | tuple):
        kinds = {_kind(entry) for entry in value if isinstance(entry, str | bool | int | float)}
        yield from (Field(name, path, kind) for kind in sorted(kinds))


def _kind(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return BOOLEAN
    return TEXT if isinstance(value, str) else NUMBER


def path_of(*keys: str) -> str:
    """Return the engine's path of a tag; the outermost key comes first."""
    return ".".join(("tags", *map(_quoted, keys)))


def _has_path(key: str) -> bool:
    """Return whether an engine's path can contain the key: any text without quotes and backslashes."""
    return bool(key) and is_path(path_of(key))


def _quoted(key: str) -> str:
    return key if all(letter.isalnum() or letter in "_-" for letter in key) else f'"{key}"'


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
