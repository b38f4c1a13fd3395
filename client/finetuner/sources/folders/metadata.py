"""Finds the metadata file of an imagefolder, as Hugging Face's datasets defines it: a table beside the images."""

from __future__ import annotations

import os
from pathlib import Path

from ...exceptions import InvalidInput
from ..tables.columns import Columns, known_names
from ..tables.csv_file import CsvFile, CSVOptions
from ..tables.jsonl_file import jsonl_keys
from ..tables.parquet_file import parquet_schema

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"


def metadata_file(
    folder: str | os.PathLike[str], options: CSVOptions, columns: Columns | None, task: str
) -> str | None:
    """Return the path of the table that describes the images of a folder; None if they have no such table.

    A table is one of METADATA, directly in the folder. Without `columns`, it has a column FILE_NAME, and for
    `image-to-image` a label; other files of these names are none, and the folder is read as images.

    Args:
        folder: with the images.
        options: of a CSV file.
        columns: as in `columns.find_columns`.
        task: 'text-to-image' or 'image-to-image'.

    Raises:
        InvalidInput: several tables, or an unreadable one.
    """
    found = [str(path) for name in METADATA if (path := Path(folder) / name).is_file()]
    if not found:
        return None
    if len(found) > 1:
        raise InvalidInput(
            f"folder must have at most one metadata file. Got {', '.join(map(repr, found))}. Pass the one to read."
        )
    names = _column_names(found[0], options, columns)
    describes = FILE_NAME in names and (task == "text-to-image" or "label" in known_names(names))
    return found[0] if describes or columns is not None else None


def _column_names(path: str, options: CSVOptions, columns: Columns | None) -> list[str]:
    suffix = Path(path).suffix
    if suffix == ".csv":
        return CsvFile(path, options, columns).header or []
    if suffix == ".jsonl":
        return jsonl_keys(path) or []
    return list(parquet_schema(path).names)
