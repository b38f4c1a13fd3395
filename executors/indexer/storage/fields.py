"""Which tags filters may name, and how engines see them.

A tag's field is called by its keys, joined by dots: {"size": {"eu": 42}} has the field `size.eu`. The engines keep it
under `tags.size.eu`. Texts, numbers and booleans count, alone or in lists, where one that fits is enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from executors.indexer.engines.engine import NUMBER, TEXT
from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG
from finetuner.exceptions import InvalidDocument

BOOLEAN = "boolean"
# Of one document's tags as JSON: an engine reads them for each filter.
MAX_TAGS_BYTES = 64 * 1024
# Fields that are remembered; past it their names and types are no longer checked.
MAX_FIELDS = 1000
# The first of them have an index of their own in each collection; filters on the others read the tags.
INDEXED_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Field:
    """One field, with one kind of value; a field of two kinds is there twice."""

    name: str
    """As filters name it: 'size.eu'."""
    path: str
    """As engines name it: 'tags.size.eu'."""
    kind: str
    """TEXT, NUMBER or BOOLEAN."""

    @property
    def stored(self) -> str:
        """The kind that the engine sees: booleans are the texts 'true' and 'false'."""
        return NUMBER if self.kind == NUMBER else TEXT


def filterable(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an engine keeps of a document's tags.

    Booleans become texts: the embedded engine takes True for 1 when it compares, and finds nothing.

    Raises:
        InvalidDocument: more than 64 KiB as JSON.
    """
    kept = {key: _plain(value) for key, value in tags.items() if key not in (ARTIFACT_TAG, ERROR_TAG)}
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    if size > MAX_TAGS_BYTES:
        raise InvalidDocument(
            f"a document's tags must take {MAX_TAGS_BYTES} bytes at most as JSON. Got {size}, of {len(kept)} tags. "
            "Keep in tags what searches are filtered by, and the rest in `text` or a chunk."
        )
    return kept


def fields_of(tags: Mapping[str, Any]) -> Iterator[Field]:
    """Yield the fields of a document's tags as they came, booleans still booleans."""
    for key, value in tags.items():
        if key not in (ARTIFACT_TAG, ERROR_TAG) and _sayable(key):
            yield from _fields(key, path_of(key), value)


def _fields(name: str, path: str, value: Any) -> Iterator[Field]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if _sayable(key):
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
    """Return the engine's path of a tag, given its keys from the outside in."""
    return ".".join(("tags", *map(_quoted, keys)))


def _sayable(key: str) -> bool:
    """Whether a path of the engine can name a key."""
    return bool(key) and '"' not in key


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
