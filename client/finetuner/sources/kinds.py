"""Finds the kind of a user's data (CSV, jsonl, folder, images, parquet or tar shards) and its reader."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..documents.image_files import SUFFIXES
from ..exceptions import DatasetNotFound, InvalidInput
from .archives.tar_file import tar_documents
from .folders.image_folder import folder_documents, image_documents
from .folders.metadata import metadata_file
from .local_images import is_image_file
from .rejects import checked_on_error
from .tables.columns import Columns, checked_columns
from .tables.csv_documents import csv_documents
from .tables.csv_file import CSVOptions
from .tables.jsonl_file import jsonl_documents
from .tables.parquet_file import parquet_documents

if TYPE_CHECKING:
    from docarray import Document

TASKS = ("text-to-image", "image-to-image")
CSV_SUFFIXES = (".csv", ".tsv", ".txt")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
KNOWN_SUFFIXES = (*CSV_SUFFIXES, *JSONL_SUFFIXES, ".parquet", *TAR_SUFFIXES, *sorted(SUFFIXES))
REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|pipe:")
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
MAX_SHARDS = 100_000
TABLES = ("CSV", "jsonl", "parquet")
TABLE_WORDS = "CSV, jsonl and parquet files and folders with a metadata file"

PathName = str | os.PathLike[str]
Source = PathName | Sequence[PathName] | TextIO
"""Local data."""


def is_source(data: object) -> bool:
    """Return whether `data` is local data, not the name of a dataset in the Flow.

    Local data is a path object, an open text file, or a nonempty list or tuple of strings or path objects. A string is
    local data if it is an existing file or folder, contains a separator or a wildcard (`*`, `?`, `[`, `{`), or ends in
    one of KNOWN_SUFFIXES. An existing path takes precedence over a dataset of that name.
    """
    if isinstance(data, str):
        special = any(letter in data for letter in ("/", os.sep, *"*?[{"))
        return special or data.lower().endswith(KNOWN_SUFFIXES) or os.path.exists(data)  # noqa: PTH110 (never raises)
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(path, str | os.PathLike) for path in data)
    return isinstance(data, os.PathLike) or _is_stream(data)


def data_not_found(name: object) -> DatasetNotFound:
    """Return the error for a name that is neither local data nor a dataset in the Flow."""
    return DatasetNotFound(
        f"data must be documents, a file, a folder or the name of a dataset. Got {name!r}, which is neither a file or "
        f"folder (relative to {str(Path.cwd())!r}) nor a dataset in the Flow. Correct it, or push the dataset."
    )


def documents_from(
    source: Source,
    *,
    csv_options: CSVOptions | None = None,
    columns: Columns | None = None,
    task: str,
    on_error: str = "raise",
) -> Iterator[Document]:
    """Return the documents of local data, read lazily.

    Args:
        source: a CSV file (path or open text file), a jsonl file, a folder of images, an image, parquet or tar shards,
            or a list of these, all of one kind. A folder is read from its `metadata.csv`, `.jsonl` or `.parquet`, if it
            has one that `metadata.metadata_file` takes. Wildcards and braces (`shard-{000..012}.tar`) are expanded.
        csv_options: for CSV files; `size`, `sampling_rate` and `convert_to_blob` also for jsonl and parquet.
        columns: for CSV with a header, jsonl and parquet: content ('image', 'text', 'label', 'score', 'language') ->
            name of its column. None takes well-known names; see `columns.find_columns`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' names all invalid entries in one error; 'skip' leaves them out and warns once.

    Returns:
        For `text-to-image`, pairs (see `documents.pairs`). For `image-to-image`, images with the tag `finetuner_label`.
        Scores are in the tag `finetuner_score`. Images are blobs, unless CSVOptions.convert_to_blob is False.

    Raises:
        DatasetNotFound: no such file.
        InvalidInput: an unknown task or kind of file, mixed kinds, options without effect, or no data.
        InvalidDocument: invalid entries. This call checks CSV files, jsonl files and folders. Damage that only
            decoding finds, and invalid entries in shards, are raised while iterating.
    """
    if task not in TASKS:
        raise InvalidInput(f"task of local data must be one of {', '.join(TASKS)}. Got {task!r}. Choose one of them.")
    if csv_options is not None and not isinstance(csv_options, CSVOptions):
        raise InvalidInput(f"csv_options must be finetuner CSVOptions. Got {csv_options!r:.80}. Use that class.")
    checked_on_error(on_error)
    columns = checked_columns(columns)
    options = csv_options or CSVOptions()
    if _is_stream(source):
        return csv_documents(source, options, task=task, on_error=on_error, columns=columns)  # type: ignore[arg-type]
    if not is_source(source) and not isinstance(source, str):
        raise InvalidInput(
            f"data must be a path, a list of paths or an open text file. Got {source!r:.80}. Pass one of them."
        )
    kind, paths = _of_one_kind(_expanded(source))  # type: ignore[arg-type]
    if len(paths) > 1 and options.size is not None and kind in ("CSV", "folder"):
        one = "CSV file" if kind == "CSV" else kind
        raise InvalidInput(f"CSVOptions.size is for one {one}. Got {len(paths)}. Read them one by one.")
    tables: list[str | None] = [metadata_file(path, options, columns, task) for path in paths if kind == "folder"]
    if kind not in TABLES and not (tables and all(tables)) and (csv_options is not None or columns is not None):
        argument = "csv_options" if csv_options is not None else "columns"
        raise InvalidInput(f"{argument} are for {TABLE_WORDS}. Got them with {source!r:.80} ({kind}). Leave them out.")
    if kind == "CSV":
        return _chained([csv_documents(path, options, task=task, on_error=on_error, columns=columns) for path in paths])
    if kind in TABLES:
        _check_options(options, kind)
        table_readers = {"jsonl": jsonl_documents, "parquet": parquet_documents}
        return table_readers[kind](paths, options, task=task, on_error=on_error, columns=columns)
    if kind == "folder":
        return _chained(
            [
                folder_documents(path, task=task, on_error=on_error)
                if table is None
                else documents_from(table, csv_options=csv_options, columns=columns, task=task, on_error=on_error)
                for path, table in zip(paths, tables, strict=True)
            ]
        )
    readers = {"image": image_documents, "tar": tar_documents}
    return readers[kind](paths, task=task, on_error=on_error)


def _check_options(options: CSVOptions, kind: str) -> None:
    """Refuse options that only a CSV file has."""
    default = CSVOptions()
    for name in ("dialect", "encoding", "is_labeled"):
        if getattr(options, name) != getattr(default, name):
            raise InvalidInput(
                f"CSVOptions.{name} is for CSV files. Got {getattr(options, name)!r:.40} with {kind}. Leave it out."
            )


def _chained(parts: Sequence[Iterator[Document]]) -> Iterator[Document]:
    return itertools.chain.from_iterable(parts)


def _is_stream(data: object) -> bool:
    return hasattr(data, "read") and hasattr(data, "readline") and not isinstance(data, str | os.PathLike)


def _expanded(source: PathName | Sequence[PathName]) -> list[str]:
    """Return existing paths. Braces, then wildcards, are expanded and sorted; an existing path is not expanded."""
    given = [source] if isinstance(source, str | os.PathLike) else source
    paths: list[str] = []
    for name in [os.path.expanduser(os.fspath(path)) for path in given]:  # noqa: PTH111 (addresses are among them)
        if REMOTE.match(name):
            raise InvalidInput(f"data must be local. Got {name!r:.120}. Download it first, and pass the path.")
        if os.path.exists(name):  # noqa: PTH110 (never raises)
            paths.append(name)
            continue
        for pattern in _without_braces(name):
            found = sorted(glob.iglob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
            if not found or not os.path.exists(found[0]):  # noqa: PTH110
                raise data_not_found(pattern)
            paths.extend(found)
    return paths


def _without_braces(pattern: str) -> list[str]:
    """Return every expansion of `{000..012}` and `{a,b}`, in order."""
    done, waiting = [], [pattern]
    while waiting:
        text = waiting.pop()
        match = BRACES.search(text)
        if match is None:
            done.append(text)
        else:
            first, last, choices = match.groups()
            if first is not None and int(last) - int(first) >= MAX_SHARDS:
                raise InvalidInput(
                    f"braces must expand to at most {MAX_SHARDS} files. Got {pattern!r:.120}. Split them."
                )
            values = choices.split(",") if first is None else _numbers(first, last)
            waiting.extend(text[: match.start()] + value + text[match.end() :] for value in reversed(values))
        if len(done) + len(waiting) > MAX_SHARDS:
            raise InvalidInput(f"braces must expand to at most {MAX_SHARDS} files. Got {pattern!r:.120}. Split them.")
    return done


def _numbers(first: str, last: str) -> list[str]:
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _of_one_kind(paths: list[str]) -> tuple[str, list[str]]:
    """Return the kind of all paths, and the paths. A text beside images, which `folder/*` matches, is a caption."""
    kinds = {path: _kind(path) for path in paths}
    if "image" in kinds.values():
        kinds = {path: "image" if path.lower().endswith(".txt") else kind for path, kind in kinds.items()}
    examples = {kind: path for path, kind in kinds.items()}
    if len(examples) != 1:
        shown = ", ".join(f"{kind} ({path!r:.60})" for kind, path in sorted(examples.items()))
        raise InvalidInput(f"data must be files of one kind. Got {shown or 'none'}. Pass them separately.")
    return next(iter(examples)), paths


def _begins_like_image(path: str) -> bool:
    try:
        return os.path.isfile(path) and is_image_file(path)  # noqa: PTH113 (not a pipe, which reading would empty)
    except OSError:  # reported by the reader of its kind
        return False


def _kind(path: str) -> str:
    if Path(path).is_dir():
        return "folder"
    lower, suffix = path.lower(), Path(path).suffix.lower()
    if lower.endswith(TAR_SUFFIXES):
        return "tar"
    if suffix == ".parquet":
        return "parquet"
    if suffix in JSONL_SUFFIXES:
        return "jsonl"
    if suffix in CSV_SUFFIXES:
        return "CSV"
    if suffix in SUFFIXES or _begins_like_image(path):
        return "image"
    if not suffix:
        return "CSV"
    raise InvalidInput(
        f"data file must end in {', '.join(KNOWN_SUFFIXES)}. Got {path!r:.120}. Rename it, or open it as text for CSV."
    )
