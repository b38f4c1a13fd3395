"""Marks: a query, the documents that a search has shown for it, and those that somebody chose or refused.

On the wire a mark is one document. Its text or blob is the query, its id is the mark's, and its tags are the fields of
`Mark`. A mark that is sent twice under one id is stored once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidInput
from .checks import text, whole

MAX_SHOWN = 100
MAX_OFFSET = 100_000  # as of a search
MAX_ID = 512
MAX_REFERENCE = 256
MAX_QUERY_TEXT = 10_000
MAX_QUERY_BYTES = 4 * 2**20
MAX_MARKS = 128  # of a request
MAX_PAGE = 1000
FIELDS = ("shown", "chosen", "refused", "offset", "artifact")


@dataclass(frozen=True)
class Mark:
    """What somebody did with the answer to one query.

    Raises:
        InvalidInput: no document was shown, or one twice, or a chosen or refused one was not shown, or nothing is
            chosen or refused, or a document is both.
    """

    id: str
    """Of the mark, 1 to MAX_ID characters."""
    shown: tuple[str, ...]
    """Ids of the documents, best first, 1 to MAX_SHOWN."""
    chosen: tuple[str, ...] = ()
    """Some of `shown`."""
    refused: tuple[str, ...] = ()
    """Others of `shown`."""
    offset: int = 0
    """Number of better matches that were not shown: the first of `shown` has the rank `offset` + 1."""
    artifact: str = ""
    """The artifact or backbone that ranked the documents, '' if not known."""

    def __post_init__(self) -> None:
        checked_id("id of a mark", self.id)
        for name in ("shown", "chosen", "refused"):
            object.__setattr__(self, name, _ids(name, getattr(self, name)))
        object.__setattr__(self, "offset", whole("offset", self.offset, 0, MAX_OFFSET))
        if len(text("artifact", self.artifact)) > MAX_REFERENCE:
            raise InvalidInput(f"artifact must have at most {MAX_REFERENCE} characters. Got {len(self.artifact)}.")
        if not self.shown:
            raise InvalidInput("shown must name the documents that the search has shown. Got none. Add their ids.")
        if not (self.chosen or self.refused):
            raise InvalidInput("a mark must choose or refuse a document. Got neither. Add `chosen` or `refused`.")
        for name in ("chosen", "refused"):
            if strange := sorted(set(getattr(self, name)) - set(self.shown)):
                raise InvalidInput(
                    f"{name} must be of the documents in `shown`. Got {strange[0]!r:.80}, which is not. Leave it out."
                )
        if both := sorted(set(self.chosen) & set(self.refused)):
            raise InvalidInput(f"a document must be chosen or refused. Got {both[0]!r:.80} in both. Choose one.")

    @classmethod
    def read(cls, mark_id: str, tags: Mapping[str, Any]) -> Mark:
        """Return the mark of a document's id and tags.

        Raises:
            InvalidInput: another tag, a missing one, or a wrong value.
        """
        if unknown := sorted(set(tags) - set(FIELDS)):
            raise InvalidInput(f"a mark must have tags of {', '.join(FIELDS)}. Got {unknown[0]!r:.80}. Leave it out.")
        return cls(mark_id, **{name: tags[name] for name in FIELDS if name in tags} | {"shown": tags.get("shown", ())})

    def tags(self) -> dict[str, Any]:
        """Return the tags of the mark's document."""
        return {
            "shown": list(self.shown), "chosen": list(self.chosen), "refused": list(self.refused),
            "offset": self.offset, "artifact": self.artifact,
        }  # fmt: skip


def checked_id(name: str, value: object) -> str:
    """Return an id of 1 to MAX_ID characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID:
        got = f"{len(value)} characters" if isinstance(value, str) else f"{value!r:.80}"
        raise InvalidInput(f"{name} must be a string of 1 to {MAX_ID} characters. Got {got}.")
    return value


def check_query(words: str, image: bytes) -> None:
    """Check the query of a mark: a text, or an image's file.

    Raises:
        InvalidInput: neither, both, or one that is too large.
    """
    if bool(words.strip()) == bool(image):
        got = "both" if image else "neither"
        raise InvalidInput(f"query must be one text or one image. Got {got}. Send the query of the search.")
    if len(words) > MAX_QUERY_TEXT:
        raise InvalidInput(f"query must have at most {MAX_QUERY_TEXT} characters. Got {len(words)}. Cut it.")
    if len(image) > MAX_QUERY_BYTES:
        raise InvalidInput(f"query must have at most {MAX_QUERY_BYTES} bytes. Got {len(image)}. Send a smaller image.")


def _ids(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f"{name} must be a list of ids. Got {value!r:.80}. Pass a list of strings.")
    if len(value) > MAX_SHOWN:
        raise InvalidInput(f"{name} must have at most {MAX_SHOWN} ids. Got {len(value)}. Send the best ones.")
    ids = tuple(checked_id(f"{name}[{number}]", each) for number, each in enumerate(value))
    if len(set(ids)) < len(ids):
        raise InvalidInput(f"{name} must have each id once. Got {len(ids) - len(set(ids))} again. Leave them out.")
    return ids
