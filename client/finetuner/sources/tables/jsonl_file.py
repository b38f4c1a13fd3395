"""Converts jsonl files, with one JSON object in each line, to documents."""

from __future__ import annotations

import codecs
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import InvalidDocument, InvalidInput
from ..links.options import LinkOptions
from ..local_images import LocalImages
from ..rejects import Entries, checked_then_used
from ..samples import Sample, SampleReader, named_sample, sampled
from .columns import REQUIRED, Columns, Found, find_columns, say_columns, shown
from .csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

MAX_LINE_BYTES = 8 * 2**20
SAMPLE_LINES = 100
MAX_KEYS = 1000
PIECE = 2**16


def jsonl_documents(
    paths: Sequence[str | os.PathLike[str]],
    options: CSVOptions,
    *,
    task: str,
    on_error: str,
    columns: Columns | None = None,
    inside: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of jsonl files, with one line in memory at a time.

    A line holds at most MAX_LINE_BYTES of UTF-8. Its image is a path, relative to the file or to the working
    directory, an address, a data URI, or Hugging Face's {'bytes', 'path'} with a path. Its text is a caption or a list
    of captions. Empty lines are skipped.

    Args:
        paths: of the files, in reading order.
        options: `size` and `sampling_rate`, over all files, and `convert_to_blob`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        columns: content -> key of the objects; see `columns.find_columns`. The keys of a file are those of the objects
            in its first SAMPLE_LINES lines, MAX_KEYS of them at most.
        inside: folder that images may not leave; None for any.

    Returns:
        Documents as in `samples.SampleReader`.

    Raises:
        InvalidInput: an unreadable file, one without an object in its first lines, or keys that do not tell.
        InvalidDocument: invalid lines, all named in one error at this call. An image with a damaged later part is found
            and named only when it is read.
    """
    names = [os.fspath(path) for path in paths]
    files: dict[str, Found] = {}
    for path in names:
        keys = jsonl_keys(path)
        if keys is None:  # an empty file, which `usable` reports
            continue
        files[path] = find_columns(keys, columns, task, repr(path))
        if len(files) == 1:
            say_columns(files[path], keys, columns, repr(path))

    def entries() -> Entries[Sample]:
        return sampled(_samples(files, task, inside, options.links), options.sampling_rate)

    source = repr(names[0]) if len(names) == 1 else "jsonl data"
    reader = SampleReader(task, options.convert_to_blob)
    return checked_then_used(
        entries,
        reader.check,
        reader.documents,
        source=source,
        on_error=on_error,
        limit=options.size,
        start=reader.start,
    )


def jsonl_keys(path: str) -> list[str] | None:
    """Return the keys of the objects in the first lines, in the order of their first use; None for an empty file.

    Raises:
        InvalidInput: an unreadable file, or one without an object in its first SAMPLE_LINES lines.
    """
    keys: dict[str, None] = {}
    objects, first_error = 0, None
    for number, line in itertools.islice(_objects(path), SAMPLE_LINES):
        if not isinstance(line, InvalidDocument):
            objects += 1
            keys.update(itertools.islice(((key, None) for key in line), MAX_KEYS - len(keys)))
        elif first_error is None:
            first_error = f"line {number}: {line}"
    if not objects and first_error is not None:
        raise InvalidInput(
            f"jsonl file must have one JSON object in each line. Got none in the first lines of {path!r}; {first_error}"
        )
    return [*keys] if objects else None


def _samples(
    files: Mapping[str, Found], task: str, inside: Path | None, links: LinkOptions
) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    for path, columns in files.items():
        images = LocalImages(Path(path).absolute().parent, inside, links)
        where = "line" if len(files) == 1 else f"{path} line"
        required = [columns[content] for content in REQUIRED[task]]
        for number, line in _objects(path):
            if isinstance(line, InvalidDocument):
                entry: Sample | InvalidDocument = line
            elif missing := next((names for names in required if line.keys().isdisjoint(names)), None):
                keys = " or ".join(f"{name!r:.60}" for name in missing)
                entry = InvalidDocument(f"object must have the key {keys}. Got {shown([*line])}. Add it.")
            else:
                entry = named_sample(columns, line.get, images)
            yield f"{where} {number}", entry


def _objects(path: str) -> Iterator[tuple[int, dict[str, Any] | InvalidDocument]]:
    """Yield each line's number, from 1, with its object, or the error for another line. Empty lines are skipped."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidInput(f"jsonl file must be readable. Got {path!r} ({error.strerror}). Check it.") from error
    with file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (piece := file.readline(PIECE)) and not piece.endswith(b"\n"):
                    pass
                yield (
                    number,
                    InvalidDocument(
                        f"line must have at most {MAX_LINE_BYTES} bytes. Got more. Store its image as a file."
                    ),
                )
            elif line.removeprefix(codecs.BOM_UTF8).strip():
                yield number, _parsed(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)


def _parsed(line: bytes) -> dict[str, Any] | InvalidDocument:
    try:
        value = json.loads(line.decode().strip())
    except UnicodeDecodeError as error:
        return InvalidDocument(f"line must be UTF-8. Got other bytes ({error.reason}). Convert the file.")
    except json.JSONDecodeError as error:
        return InvalidDocument(
            f"line must be a JSON object. Got an error: {error.msg} at letter {error.colno}. Correct it."
        )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets
        return InvalidDocument(f"line must be a JSON object. Got an error: {error!s:.80}. Correct it.")
    if not isinstance(value, dict):
        return InvalidDocument(f"line must be a JSON object. Got {value!r:.60}. Write one object a line.")
    return value
