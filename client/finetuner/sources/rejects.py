"""Invalid entries of a data source: all named in one error, or left out with one warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..exceptions import InvalidDocument, InvalidInput

if TYPE_CHECKING:
    from docarray import Document

SHOWN = 20
ON_ERROR = ("raise", "skip")

Entry = TypeVar("Entry")
Entries = Iterable[tuple[str, Entry | InvalidDocument]]
"""Position of each entry, such as 'line 17', with the entry, or with the error for an unreadable one."""


class Rejects:
    """The invalid entries of one source; the first SHOWN are kept, the others only counted.

    Args:
        source: its name for the user, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: list[str] = []
        self.count = 0

    def add(self, where: str, error: InvalidDocument) -> None:
        """Add one entry."""
        self.count += 1
        if self.count <= SHOWN:
            self._shown.append(f"  {where}: {error}")

    def describe(self) -> str:
        """Return one line for each of the first SHOWN entries, then the number of others."""
        more = [f"  and {self.count - SHOWN} more"] if self.count > SHOWN else []
        return "\n".join([*self._shown, *more])

    def error(self) -> InvalidDocument:
        """Return one error that names all entries."""
        return InvalidDocument(
            f"{self._source} must hold usable entries only. Got {self.count} that cannot be used:\n{self.describe()}\n"
            f"Correct or remove them, or pass on_error='skip' to leave them out."
        )

    def warn(self) -> None:
        """Warn once about all entries, which were left out."""
        message = f"{self._source}: left out {self.count} entries that cannot be used:\n{self.describe()}"
        warnings.warn(message, UserWarning, stacklevel=3)


def checked_on_error(on_error: str) -> str:
    """Return `on_error` if it is one of ON_ERROR.

    Raises:
        InvalidInput: it is not.
    """
    if on_error in ON_ERROR:
        return on_error
    raise InvalidInput(f"on_error must be one of {', '.join(ON_ERROR)}. Got {on_error!r}. Choose one of them.")


def usable(
    entries: Entries[Entry],
    use: Callable[[Entry], Iterable[Document]],
    *,
    source: str,
    on_error: str,
    limit: int | None = None,
) -> Iterator[Document]:
    """Yield the documents of the valid entries.

    Args:
        entries: read lazily, one at a time.
        use: returns the documents of an entry, or raises InvalidDocument.
        source: its name for the user, for messages.
        on_error: 'raise' yields nothing after the first invalid entry, and reads the rest only to name every invalid
            entry. 'skip' leaves invalid entries out, and names them in a warning at the end.
        limit: largest number of entries to use; None for all.

    Raises:
        InvalidDocument: at the end, for on_error='raise' and an invalid entry.
        InvalidInput: at the end, without a valid entry.
    """
    rejects, good = Rejects(source), 0
    for tried, (where, entry) in enumerate(entries):
        if limit is not None and (tried if on_error == "raise" else good) >= limit:
            break
        try:
            if isinstance(entry, InvalidDocument):
                raise entry
            documents = use(entry)
        except InvalidDocument as error:
            rejects.add(where, error)
            continue
        good += 1
        if not rejects.count or on_error == "skip":
            yield from documents
    if rejects.count and on_error == "raise":
        raise rejects.error()
    if rejects.count:
        rejects.warn()
    if not good:
        raise InvalidInput(f"{source} must hold at least one usable entry. Got none. Add data.")


def checked_then_used(
    entries: Callable[[], Entries[Entry]],
    check: Callable[[Entry], Iterable[Document]],
    use: Callable[[Entry], Iterable[Document]],
    *,
    source: str,
    on_error: str,
    limit: int | None = None,
) -> Iterator[Document]:
    """Yield the documents of the valid entries; with on_error='raise', check all entries first.

    The check runs at this call and keeps nothing, so the source is read twice.

    Args:
        entries: starts a reading of the source; called once per reading.
        check: raises InvalidDocument for an invalid entry, at a small cost; returns no documents.
        use, source, on_error, limit: as in `usable`.

    Raises:
        InvalidDocument, InvalidInput: as in `usable`, at this call; while iterating for errors that only `use` finds.
    """
    if on_error == "raise":
        for _ in usable(entries(), check, source=source, on_error=on_error, limit=limit):
            raise AssertionError("check must return no documents")
    return usable(entries(), use, source=source, on_error=on_error, limit=limit)
