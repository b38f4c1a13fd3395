"""Converts parquet files to documents, a few rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..contract.wire import LABEL_TAG, SCORE_TAG
from ..exceptions import InvalidDocument, InvalidInput
from .samples import Sample, sample_documents

if TYPE_CHECKING:
    from docarray import Document

TEXT, IMAGE = ("text", "caption"), ("image", "image_bytes", "jpg", "jpeg", "png", "webp")
LABEL, SCORE, LANGUAGE = ("label", LABEL_TAG), ("score", SCORE_TAG), ("language",)
ROWS = 64


def parquet_documents(paths: Sequence[str | os.PathLike[str]], *, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of parquet files, with a few rows in memory at a time.

    One column, named as in IMAGE, holds the image file as binary or as Hugging Face's struct {bytes, path}, whose path
    is never read. `text-to-image` requires a text column, named as in TEXT, and `image-to-image` a `label`. `label`,
    `score` and `language` are optional otherwise. Other columns are ignored.

    Args:
        paths: of the files, in reading order.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Pairs (see `documents.pairs`) or images as blobs, with tags `finetuner_label`, `finetuner_score` and `language`.

    Raises:
        InvalidInput: a file that is not parquet or lacks a required column, at this call; no rows.
        InvalidDocument: invalid rows, numbered from 0, all named in one error after the last row.
    """
    columns = {os.fspath(path): _columns(os.fspath(path), task) for path in paths}
    return sample_documents(_rows(columns), "parquet data", task, on_error)


def _columns(path: str, task: str) -> dict[str, str]:
    """Return the name of the image column, the text column and so on, from the file's schema."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"parquet file must be readable. Got {path!r} ({str(error)[:120]}). Check it.") from error
    wanted = {"image": IMAGE, "text": TEXT, "label": LABEL, "score": SCORE, "language": LANGUAGE}
    found = {key: next((name for name in names if name in schema.names), "") for key, names in wanted.items()}
    for key in ("image", "text" if task == "text-to-image" else "label"):
        if not found[key]:
            raise InvalidInput(
                f"parquet file for {task} must have a column {' or '.join(wanted[key])}. "
                f"Got {', '.join(schema.names)} in {path!r}. Rename one."
            )
    kind = schema.field(found["image"]).type
    if pa.types.is_struct(kind):
        inner = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        kind = inner.get("bytes", kind)
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidInput(
            f"column {found['image']} must be binary or a struct of bytes and path. Got {kind} in {path!r}. "
            f"Store the images' files in it."
        )
    return {key: name for key, name in found.items() if name}


def _rows(files: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    import pyarrow as pa
    import pyarrow.parquet

    for path, columns in files.items():
        number = 0
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS, columns=list(columns.values())):
                    for row in batch.to_pylist():
                        sample = {key: row[name] for key, name in columns.items()}
                        if isinstance(sample["image"], dict):
                            sample["image"] = sample["image"].get("bytes")
                        yield f"{path} row {number}", sample
                        number += 1
        except (OSError, pa.ArrowException) as error:
            yield f"{path} from row {number}", InvalidDocument(f"file must be whole. Got an error: {str(error)[:120]}.")
