"""Finds the image, the captions, the label and the score among the named columns of a table.

A table is a CSV file with a header, a jsonl file, a parquet file or a data set of Hugging Face. A caller names the
columns, or they have well-known names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ...contract.wire import LABEL_TAG, LANGUAGE_TAG, NEGATIVES_TAG, SCORE_TAG
from ...documents.tags import MAX_NEGATIVES
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
        "image_url",
        "img",
    ),
    "text": ("text", "caption", "title", "prompt", "description", "captions"),
    "label": ("label", LABEL_TAG, "category"),
    "score": ("score", SCORE_TAG),
    "language": (LANGUAGE_TAG,),
    "negative": ("negative", "negatives", "hard_negative", NEGATIVES_TAG),
}
"""Content of a column -> its well-known names, the preferred one first."""
REQUIRED = {"text-to-image": ("image", "text"), "image-to-image": ("image", "label")}
SHOWN = 20
MAX_CAPTION_COLUMNS = 100
MOST_COLUMNS = {"text": MAX_CAPTION_COLUMNS, "negative": MAX_NEGATIVES}
FOR_PAIRS = ("score", "negative")

Columns = Mapping[str, str | Sequence[str]]
"""Content (a key of WELL_KNOWN) -> the name of its column; for 'text' and 'negative', also the names of several."""
Found = Mapping[str, tuple[str, ...]]
"""Content -> the names of its columns: several for 'text' and 'negative', else one."""

log = logging.getLogger("finetuner")


def checked_columns(columns: object) -> dict[str, tuple[str, ...]] | None:
    """Return the names of the columns of each content; None for None.

    Args:
        columns: content (a key of WELL_KNOWN) -> name of its column, such as {'image': 'photo', 'text': 'titel'}. The
            value of 'text' may be a list of at most MAX_CAPTION_COLUMNS names, that of 'negative' one of MAX_NEGATIVES.

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
    for content in columns:
        if content not in WELL_KNOWN:
            raise InvalidInput(
                f"columns must have keys among {', '.join(WELL_KNOWN)}. Got {content!r:.40}. Correct it."
            )
    return {content: _checked_names(content, names) for content, names in columns.items()}


def _checked_names(content: str, given: object) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, list | tuple) else (given,)
    most = MOST_COLUMNS.get(content, 1)
    if not 1 <= len(names) <= most or not all(isinstance(name, str) and name.strip() for name in names):
        several = f" or a list of at most {most} names" if most > 1 else ""
        raise InvalidInput(
            f"columns[{content!r}] must be the name of a column{several}. Got {given!r:.40}. Correct it."
        )
    return tuple(dict.fromkeys(str(name).strip() for name in names))


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


def find_columns(names: Sequence[str], columns: Columns | None, task: str, source: str) -> dict[str, tuple[str, ...]]:
    """Return content -> the names of its columns.

    Args:
        names: of a table's columns, in order.
        columns: see `checked_columns`. Only these are read, and well-known ones that the task requires. None reads all
            well-known ones.
        task: 'text-to-image' requires image and text; 'image-to-image' image and label, and has no score and no
            negative.
        source: name of the table, for messages.

    Raises:
        InvalidInput: a named column is not in the table, a required one is neither named nor well known, a name occurs
            twice, or a score or negative is named for image-to-image. The message has the table's columns.
    """
    known, found = known_names(names), checked_columns(columns) or {}
    for content, given in found.items():
        for name in given:
            if name not in names:
                raise InvalidInput(
                    f"columns[{content!r}] must be a column of {source}. Got {name!r:.60}, but its columns are "
                    f"{shown(names)}. Correct the name."
                )
    for content in FOR_PAIRS:
        if content in found and task != "text-to-image":
            name = found[content][0]
            raise InvalidInput(f"columns[{content!r}] is for pairs. Got {name!r:.60} for {task}. Leave it out.")
    for content in WELL_KNOWN if columns is None else REQUIRED[task]:
        if content in known and not (content in FOR_PAIRS and task != "text-to-image"):
            found.setdefault(content, (known[content],))
    for content in REQUIRED[task]:
        if content not in found:
            raise InvalidInput(
                f"data for {task} must have a column {' or '.join(WELL_KNOWN[content])}. Got {shown(names)} in "
                f"{source}. Name the columns, for example columns={proposed(names, found, task)}."
            )
    twice = next((name for name in read_names(found) if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"column {twice!r:.60} must be in {source} once. Got {shown(names)}. Rename one.")
    return found


def read_names(found: Found) -> list[str]:
    """Return the names of all columns that are read, each once."""
    return list(dict.fromkeys(name for names in found.values() for name in names))


def say_columns(found: Found, names: Sequence[str], columns: Columns | None, source: str) -> None:
    """Log, as INFO and in one line, the columns that `find_columns` has found by their well-known names."""
    if columns is not None and set(found) == set(columns):
        return
    others = [name for name in names if name not in read_names(found)]
    log.info(
        "%s: %s%s",
        source,
        ", ".join(f"{content} is column {' and '.join(f'{n!r:.60}' for n in each)}" for content, each in found.items()),
        f"; not read: {shown(others)}" if others else "",
    )


def shown(names: Sequence[str]) -> str:
    """Return the first SHOWN names for a message, each cut to 40 letters."""
    cut = [name if name and name.isprintable() and len(name) <= 40 else f"{name!r:.40}" for name in names[:SHOWN]]
    return ", ".join([*cut, *(["..."] if len(names) > SHOWN else [])]) or "none"


def proposed(names: Sequence[str], found: Found, task: str) -> dict[str, str]:
    """Return a value for `columns`: the required ones that are found, and columns without a content for the others.

    Args:
        names: of a table's columns, in order.
        found: content -> the names of its columns.
        task: 'text-to-image' or 'image-to-image'.
    """
    free = [name for name in names if name and name not in read_names(found)]
    known = {content: each[0] for content, each in found.items()}
    return {content: known.get(content) or (free.pop(0) if free else "...") for content in REQUIRED[task]}
