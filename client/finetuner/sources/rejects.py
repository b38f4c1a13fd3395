"""Entries of a data source that give no documents: invalid ones, and those that are not data.

Invalid entries are all named in one error, or left out with one warning. One warning counts the entries that are not
data, such as hidden files, with the reasons.
"""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import InvalidDocument, InvalidInput
from .links.reasons import reason_of

if TYPE_CHECKING:
    from docarray import Document

SHOWN = 20
EXAMPLES = 3
ON_ERROR = ("raise", "skip")


@dataclass(frozen=True)
class PassedOver:
    """An entry that is not data."""

    reason: str
    """Such as 'not an image'."""


Entry = TypeVar("Entry")
Entries = Iterable[tuple[str, Entry | InvalidDocument | PassedOver]]
"""Position of each entry, such as 'line 17', with the entry, the error for an unreadable one, or PassedOver."""


class Rejects:
    """The entries of one source that give no documents. The first SHOWN invalid ones are kept, the others only counted.

    Args:
        source: its name for the user, for messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: list[str] = []
        self.count = 0
        """Number of invalid entries."""
        self._reasons: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, where: str, error: InvalidDocument) -> None:
        """Add an invalid entry."""
        self.count += 1
        self._reasons[reason_of(error) or "other"] += 1
        if self.count <= SHOWN:
            self._shown.append(f"  {where}: {error}")

    def pass_over(self, where: str, reason: str) -> None:
        """Add an entry that is not data."""
        self._passed[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(where)

    def describe(self) -> str:
        """Return one line for each of the first SHOWN invalid entries, then the number of others, with the reasons."""
        counts = ", ".join(f"{count} {reason}" for reason, count in self._reasons.most_common())
        why = f"; all {self.count}: {counts}" if len(self._reasons) > 1 or "other" not in self._reasons else ""
        more = [f"  and {self.count - SHOWN} more{why}"] if self.count > SHOWN else []
        return "\n".join([*self._shown, *more])

    def passed(self) -> str:
        """Return the number of entries that are not data, with reasons and examples; '' for none."""
        if not self._passed:
            return ""
        reasons = []
        for reason, count in self._passed.most_common():
            examples = self._examples[reason]
            more = ", ..." if count > len(examples) else ""
            reasons.append(f"{count} {reason} ({', '.join(examples)}{more})")
        return f"passed over {self._passed.total()} entries: {'; '.join(reasons)}"

    def error(self) -> InvalidDocument:
        """Return one error that names all invalid entries."""
        passed = f"\nAlso {self.passed()}." if self._passed else ""
        return InvalidDocument(
            f"{self._source} must hold usable entries only. Got {self.count} that cannot be used:\n{self.describe()}\n"
            f"Correct or remove them, or pass on_error='skip' to leave them out.{passed}"
        )

    def warn(self) -> None:
        """Warn once about all invalid entries, which were left out, and once about those that are not data."""
        if self.count:
            message = f"{self._source}: left out {self.count} entries that cannot be used:\n{self.describe()}"
            warnings.warn(message, UserWarning, stacklevel=3)
        if self._passed:
            warnings.warn(f"{self._source}: {self.passed()}.", UserWarning, stacklevel=3)


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
    quiet: bool = False,
) -> Iterator[Document]:
    """Yield the documents of the valid entries.

    Args:
        entries: read lazily, one at a time.
        use: returns the documents of an entry, or raises InvalidDocument.
        source: its name for the user, for messages.
        on_error: 'raise' yields nothing after the first invalid entry, and reads the rest only to name every invalid
            entry. 'skip' leaves invalid entries out, and names them in a warning at the end.
        limit: largest number of entries to use; None for all.
        quiet: whether to give no warning.

    Raises:
        InvalidDocument: at the end, for on_error='raise' and an invalid entry.
        InvalidInput: at the end, without a valid entry.
    """
    rejects, good = Rejects(source), 0
    for where, entry in entries:
        if limit is not None and good + (rejects.count if on_error == "raise" else 0) >= limit:
            break
        if isinstance(entry, PassedOver):
            rejects.pass_over(where, entry.reason)
            continue
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
    if not good:
        detail = f" ({passed})" if (passed := rejects.passed()) else ""
        raise InvalidInput(f"{source} must hold at least one usable entry. Got none{detail}. Add data.")
    if not quiet:
        rejects.warn()


def checked_then_used(
    entries: Callable[[], Entries[Entry]],
    check: Callable[[Entry], Iterable[Document]],
    use: Callable[[Entry], Iterable[Document]],
    *,
    source: str,
    on_error: str,
    limit: int | None = None,
    start: Callable[[Entry], int] = lambda entry: 0,
) -> Iterator[Document]:
    """Yield the documents of the valid entries; with on_error='raise', check all entries first.

    The check runs at this call and keeps nothing, so the source is read twice.

    Args:
        entries: starts a reading of the source; called once per reading.
        check: raises InvalidDocument for an invalid entry, at a small cost; returns no documents.
        use, source, on_error, limit: as in `usable`.
        start: as in `ahead`.

    Raises:
        InvalidDocument, InvalidInput: as in `usable`, at this call; while iterating for errors that only `use` finds.
    """
    if on_error == "raise":
        for _ in usable(entries(), check, source=source, on_error=on_error, limit=limit, quiet=True):
            raise AssertionError("check must return no documents")
    return usable(ahead(entries(), start, limit), use, source=source, on_error=on_error, limit=limit)


def ahead(entries: Entries[Entry], start: Callable[[Any], int], limit: int | None) -> Entries[Entry]:
    """Yield the entries, with the work that some need in the background begun before their turn.

    Args:
        entries: read lazily, up to the number of entries that `start` returns ahead.
        start: begins the work of an entry, and returns the number of entries to begin before the first is used; 0 for
            an entry without such work.
        limit: most entries to read ahead, if it is smaller; None for no limit.
    """
    waiting: deque[tuple[tuple[str, Entry | InvalidDocument | PassedOver], bool]] = deque()
    begun = window = 0
    for where, entry in entries:
        several = 0 if isinstance(entry, InvalidDocument | PassedOver) else start(entry)
        window = max(window, several if limit is None else min(several, limit))
        waiting.append(((where, entry), several > 0))
        begun += several > 0
        while waiting and (not begun or len(waiting) > window):
            first, had_work = waiting.popleft()
            begun -= had_work
            yield first
    yield from (each for each, _ in waiting)
