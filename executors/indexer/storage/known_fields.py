"""The fields of all documents, past and present, for checking filters."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable

from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.engines.edge_filter import is_path
from finetuner.executors.indexer.storage.fields import INDEXED_FIELDS, MAX_FIELDS, Field, path_of

# Names in an error message.
LISTED = 20


class KnownFields:
    """The first 1,000 fields. Names and types of further fields are not checked."""

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self._fields: dict[Field, None] = {}  # in order, without duplicates
        self._named: dict[str, list[Field]] = defaultdict(list)
        self.add(fields)

    def new(self, fields: Iterable[Field]) -> list[Field]:
        """Return the unknown fields, up to the limit."""
        found = dict.fromkeys(field for field in fields if field not in self._fields)
        return list(found)[: max(MAX_FIELDS - len(self._fields), 0)]

    def add(self, fields: Iterable[Field]) -> None:
        """Add fields."""
        for field in fields:
            if field not in self._fields:
                self._fields[field] = None
                self._named[field.name].append(field)

    def indexed(self, new: Iterable[Field] = ()) -> dict[str, str]:
        """Return path -> kind of the fields that have an index, including `new`. The first kind of a path counts."""
        paths: dict[str, str] = {}
        for field in (*self._fields, *new):
            paths.setdefault(field.path, field.stored)
        return dict(list(paths.items())[:INDEXED_FIELDS])

    def paths(self, name: str) -> list[str]:
        """Return the engine's paths of a field: one for each form in which documents have it.

        Raises:
            InvalidInput: no document has the field.
        """
        return list(dict.fromkeys(field.path for field in self._of(name)))

    def name(self, name: str) -> str:
        """Return the plain name of a field: 'size.eu' for 'tags__size__eu'.

        Raises:
            InvalidInput: no document has the field.
        """
        return self._of(name)[0].name

    def kinds(self, name: str) -> set[str]:
        """Return the kinds of a field's values, an empty text for a kind that was not recorded.

        Raises:
            InvalidInput: no document has the field.
        """
        return {field.kind for field in self._of(name)}

    def require(self, name: str, kind: str, value: object) -> list[str]:
        """Return the engine's paths of a field with values of a kind.

        Raises:
            InvalidInput: no document has the field, or only with values of another kind.
        """
        fields = self._of(name)
        found = [field.path for field in fields if field.kind == kind]
        if found:
            return found
        if len(self._fields) >= MAX_FIELDS:
            return self.paths(name)
        held = " and ".join(sorted({field.kind for field in fields}))
        raise InvalidInput(
            f"filter on {name!r} must compare with a {held}, the type of that tag in the documents. "
            f"Got the {kind} {str(value)[:80]!r}. Change the value."
        )

    def _of(self, name: str) -> list[Field]:
        plain = _plain(name)
        for candidate in (name, plain):
            if candidate in self._named:
                return self._named[candidate]
        if len(self._fields) >= MAX_FIELDS:
            paths = dict.fromkeys((path_of(*plain.split(".")), path_of(plain)))
            if fields := [Field(plain, path, "") for path in paths if is_path(path)]:
                return fields
        names = sorted(self._named)
        nearest = difflib.get_close_matches(plain, names, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        if set(name) & set('"\\'):
            hint = (
                " Tags with a quote or a backslash in their name are stored, but no filter can name them: rename them."
            )
        shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        raise InvalidInput(f"filter must name tags that documents have: {shown or 'none'}. Got {name!r}.{hint}")


def _plain(name: str) -> str:
    """Return `size.eu` for DocArray's `tags__size__eu`, and for `tags.size.eu`."""
    for prefix in ("tags__", "tags."):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return name.replace("__", ".")
