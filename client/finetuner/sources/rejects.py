"""What cannot be used in a data source: named in one error that has it all, or left out with one warning."""

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
"""Where an entry stands, such as 'line 17', and the entry, or why it could not even be read."""


class Rejects:
    """The entries of one source that cannot be used; only the first SHOWN are kept, the others are counted.

    Args:
        source: what the user called it, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: list[str] = []
        self.count = 0

    def add(self, where: str, error: InvalidDocument) -> None:
        """Note one entry."""
        self.count += 1
        if self.count <= SHOWN:
            self._shown.append(f"  {where}: {error}")

    def describe(self) -> str:
        """Return one line for each of the first SHOWN, then how many more there are."""
        more = [f"  and {self.count - SHOWN} more"] if self.count > SHOWN else []
        return "\n".join([*self._shown, *more])

    def error(self) -> InvalidDocument:
        """Return the one error that names them all."""
        return InvalidDocument(
            f"{self._source} must hold usable entries only. Got {self.count} that cannot be used:\n{self.describe()}\n"
            f"Correct or remove them, or pass on_error='skip' to leave them out."
        )

    def warn(self) -> None:
        """Say once what was left out."""
        message = f"{self._source}: left out {self.count} entries that cannot be used:\n{self.describe()}"
        warnings.warn(message, UserWarning, stacklevel=3)


def checked_on_error(on_error: str) -> str:
    """Return `on_error` if it is one of ON_ERROR.

    Raises:
        InvalidInput: it is not.
    """
    if on_error in ON_ERROR:
        return on_error
    raise InvalidInput(f"on_error must be one of {', '.join(ON_ERROR)}. Got {on_error!r}.")


def usable(
    entries: Entries[Entry],
    use: Callable[[Entry], Iterable[Document]],
    *,
    source: str,
    on_error: str,
    limit: int | None = None,
) -> Iterator[Document]:
    """Yield the documents of the entries that can be used.

    Args:
        entries: read as the documents are asked for, never held.
        use: makes an entry's documents, or raises InvalidDocument.
        source: what the user called it.
        on_error: 'raise': after the first bad entry nothing more is yielded, the rest is only read to name every
            bad one. 'skip': bad ones are left out, and a warning at the end names them.
        limit: of entries used; None for all.

    Raises:
        InvalidDocument: at the end, if on_error='raise' and there was a bad entry.
        InvalidInput: at the end, if there was no usable entry.
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
    """Read twice where errors are raised: the first time, at this call, looks for bad entries and keeps nothing.

    Args:
        entries: starts reading; called again for the second time.
        check: raises InvalidDocument for a bad entry, at a small cost; returns no document.
        use, source, on_error, limit: as in `usable`.

    Raises:
        InvalidDocument, InvalidInput: as in `usable`, at this call; while iterating for what `use` alone finds.
    """
    if on_error == "raise":
        for _ in usable(entries(), check, source=source, on_error=on_error, limit=limit):
            raise AssertionError("check returns no document")
    return usable(entries(), use, source=source, on_error=on_error, limit=limit)
