"""Notes, tags and new names that people give their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetuner.contract.checks import checked_name
from finetuner.contract.parameters import Parameters
from finetuner.exceptions import InvalidInput

MOST_NOTE, MOST_TAG, MOST_TAGS = 2000, 40, 16


@dataclass(frozen=True)
class Edit:
    """A change of what people call a run. None leaves a part as it is."""

    new_name: str | None = None
    note: str | None = None
    """Up to 2,000 characters."""
    tags: tuple[str, ...] | None = None
    """Up to 16, of 1 to 40 characters each, in the order given, each once."""

    @classmethod
    def read(cls, parameters: Parameters) -> Edit:
        """Return the change that a request asks for.

        Raises:
            InvalidInput: nothing to change, an invalid name, or a note or tag that is too long or no text.
        """
        new_name, note, tags = (parameters.get(name) for name in ("new_name", "note", "tags"))
        if new_name is None and note is None and tags is None:
            raise InvalidInput("An edit must have new_name, note or tags. Got none of them. Add one.")
        if note is not None and len(parameters.text("note")) > MOST_NOTE:
            raise InvalidInput(f"note must have at most {MOST_NOTE} characters. Got {len(note)}. Shorten it.")
        return cls(
            None if new_name is None else checked_name(parameters.text("new_name"), "new_name"),
            note,
            None if tags is None else _tags(tags),
        )


def _tags(given: object) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > MOST_TAGS:
        raise InvalidInput(f"tags must be a list of at most {MOST_TAGS} texts. Got {given!r:.80}. Shorten it.")
    for tag in given:
        if not (isinstance(tag, str) and 0 < len(tag.strip()) <= MOST_TAG and tag.isprintable() and "," not in tag):
            raise InvalidInput(
                f"A tag must have 1 to {MOST_TAG} printable characters and no comma. Got {tag!r:.80}. Change it."
            )
    return tuple(dict.fromkeys(tag.strip() for tag in given))
