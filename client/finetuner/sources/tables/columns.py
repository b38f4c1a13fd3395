"""Finds the image, the text, the label and the score among the named columns of a table.

A table is a CSV file with a header, a jsonl file or a parquet file. A caller names the columns, or they have well-known
names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ...contract.wire import LABEL_TAG, LANGUAGE_TAG, SCORE_TAG
from ...exceptions import InvalidInput

WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "image": (
        "image",
        "image_bytes",
        "jpg",
        "jpeg",
        "png",
        "webp",
        "image_path",
        "filepath",
        "file_name",
        "url",
        "img",
    ),
    "text": ("text", "caption", "title", "prompt", "description"),
    "label": ("label", LABEL_TAG, "category"),
    "score": ("score", SCORE_TAG),
    "language": (LANGUAGE_TAG,),
}
"""Content of a column -> its well-known names, the preferred one first."""
REQUIRED = {"text-to-image": ("image", "text"), "image-to-image": ("image", "label")}
SHOWN = 20

log = logging.getLogger("finetuner")


def checked_columns(columns: object) -> dict[str, str] | None:
    """Return the argument `columns` as a dict; None for None.

    Args:
        columns: content (a key of WELL_KNOWN) -> name of the column, such as {'image': 'photo', 'text': 'titel'}.

    Raises:
        InvalidInput: something else.
    """
    if columns is None:
        return None
    if not isinstance(columns, Mapping) or not columns:
        raise InvalidInput(
            f"columns must be a dict such as {{'image': 'photo', 'text': 'caption'}}. Got {columns!r:.80}. "
            f"Name the columns of your file, or leave it out."
        )
    for content, name in columns.items():
        if content not in WELL_KNOWN:
            raise InvalidInput(
                f"columns must have keys among {', '.join(WELL_KNOWN)}. Got {content!r:.40}. Correct it."
            )
        if not isinstance(name, str) or not name.strip():
            raise InvalidInput(f"columns[{content!r}] must be the name of a column. Got {name!r:.40}. Correct it.")
    return {content: name.strip() for content, name in columns.items()}


def known_names(names: Sequence[str]) -> dict[str, str]:
    """Return content -> the column with one of its well-known names, in any case; contents without one are left out.

    Args:
        names: of a table's columns.
    """
    by_lower = {name.lower(): name for name in reversed(names)}  # of 'Image' and 'image', the first
    found = {
        content: next((by_lower[each] for each in known if each in by_lower), "")
        for content, known in WELL_KNOWN.items()
    }
    return {content: name for content, name in found.items() if name}


def find_columns(names: Sequence[str], columns: Mapping[str, str] | None, task: str, source: str) -> dict[str, str]:
    """Return content -> the name of its column.

    Args:
        names: of a table's columns, in order.
        columns: checked by `checked_columns`. Only these are read, and well-known ones that the task requires. None
            reads all well-known ones.
        task: 'text-to-image' requires image and text, 'image-to-image' image and label, and has no score.
        source: name of the table, for messages.

    Raises:
        InvalidInput: a named column is not in the table, a required one is neither named nor well known, a name occurs
            twice, or a score is named for image-to-image. The message has the table's columns.
    """
    known, found = known_names(names), dict(columns or {})
    for content, name in found.items():
        if name not in names:
            raise InvalidInput(
                f"columns[{content!r}] must be a column of {source}. Got {name!r:.60}, but its columns are "
                f"{shown(names)}. Correct the name."
            )
    if "score" in found and task != "text-to-image":
        raise InvalidInput(f"columns['score'] is for pairs. Got {found['score']!r:.60} for {task}. Leave it out.")
    for content in WELL_KNOWN if columns is None else REQUIRED[task]:
        if content in known and not (content == "score" and task != "text-to-image"):
            found.setdefault(content, known[content])
    for content in REQUIRED[task]:
        if content not in found:
            raise InvalidInput(
                f"data for {task} must have a column {' or '.join(WELL_KNOWN[content])}. Got {shown(names)} in "
                f"{source}. Name the columns, for example columns={proposed(names, found, task)}."
            )
    twice = next((name for name in found.values() if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"column {twice!r:.60} must be in {source} once. Got {shown(names)}. Rename one.")
    return found


def say_columns(found: Mapping[str, str], names: Sequence[str], columns: Mapping[str, str] | None, source: str) -> None:
    """Log, as INFO and in one line, the columns that `find_columns` has found by their well-known names."""
    if columns is not None and set(found) == set(columns):
        return
    others = [name for name in names if name not in found.values()]
    log.info(
        "%s: %s%s",
        source,
        ", ".join(f"{content} is column {name!r:.60}" for content, name in found.items()),
        f"; not read: {shown(others)}" if others else "",
    )


def shown(names: Sequence[str]) -> str:
    """Return the first SHOWN names for a message, each cut to 40 letters."""
    cut = [name if name and name.isprintable() and len(name) <= 40 else f"{name!r:.40}" for name in names[:SHOWN]]
    return ", ".join([*cut, *(["..."] if len(names) > SHOWN else [])]) or "none"


def proposed(names: Sequence[str], found: Mapping[str, str], task: str) -> dict[str, str]:
    """Return a value for `columns`: the required ones that are found, and columns without a content for the others.

    Args:
        names: of a table's columns, in order.
        found: content -> the name of its column.
        task: 'text-to-image' or 'image-to-image'.
    """
    free = [name for name in names if name and name not in found.values()]
    return {content: found.get(content) or (free.pop(0) if free else "...") for content in REQUIRED[task]}
