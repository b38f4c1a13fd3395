"""The fields of all documents, past and present, for checking filters."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable

from executors.indexer.storage.fields import INDEXED_FIELDS, MAX_FIELDS, Field, path_of
from finetuner.exceptions import InvalidInput

# Names in an error message.
LISTED = 20


class KnownFields:
    """The first 1,000 fields. Names and types of further fields are not checked."""

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self._fields: dict[tuple[str, str], Field] = {}
        self._kinds: dict[str, set[str]] = defaultdict(set)
        self.add(fields)

    def new(self, fields: Iterable[Field]) -> list[Field]:
        """Return the unknown fields, up to the limit."""
        found = {(field.name, field.kind): field for field in fields if (field.name, field.kind) not in self._fields}
        return list(found.values())[: max(MAX_FIELDS - len(self._fields), 0)]

    def add(self, fields: Iterable[Field]) -> None:
        """Add fields."""
        for field in fields:
            self._fields[field.name, field.kind] = field
            self._kinds[field.name].add(field.kind)

    @property
    def indexed(self) -> dict[str, str]:
        """Path -> kind of the fields that have an index. The first kind of a field counts."""
        paths: dict[str, str] = {}
        for field in self._fields.values():
            paths.setdefault(field.path, field.stored)
        return dict(list(paths.items())[:INDEXED_FIELDS])

    def path(self, name: str) -> str:
        """Return the engine's path of a field.

        Raises:
            InvalidInput: no document has the field.
        """
        return self._of(name)[0].path

    def require(self, name: str, kind: str, value: object) -> Field:
        """Return a field with values of a kind.

        Raises:
            InvalidInput: no document has the field, or only with values of another kind.
        """
        fields = self._of(name)
        for field in fields:
            if field.kind == kind:
                return field
        if len(self._fields) >= MAX_FIELDS:
            return fields[0]
        held = " and ".join(sorted(field.kind for field in fields))
        raise InvalidInput(
            f"filter on {name!r} must compare with a {held}, the type of that tag in the documents. "
            f"Got the {kind} {str(value)[:80]!r}. Change the value."
        )

    def _of(self, name: str) -> list[Field]:
        plain = _plain(name)
        for candidate in (name, plain):
            if candidate in self._kinds:
                return [self._fields[candidate, kind] for kind in sorted(self._kinds[candidate])]
        if len(self._fields) >= MAX_FIELDS:
            return [Field(plain, path_of(*plain.replace('"', "").split(".")), "")]
        names = sorted(self._kinds)
        nearest = difflib.get_close_matches(plain, names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        raise InvalidInput(f"filter must name tags that documents have: {shown or 'none'}. Got {name!r}.{hint}")


def _plain(name: str) -> str:
    """Return `size.eu` for DocArray's `tags__size__eu`, and for `tags.size.eu`."""
    for prefix in ("tags__", "tags."):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return name.replace("__", ".")
