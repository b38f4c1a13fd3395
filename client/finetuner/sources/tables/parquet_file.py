"""Converts parquet files to documents, a few rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import InvalidDocument, InvalidInput
from ..links.options import LinkOptions
from ..local_images import LocalImages
from ..samples import Sample, sample_documents, sampled
from .arrow import ROWS, class_names, columns_of, table_samples
from .columns import Columns, Found, read_names
from .csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document


def parquet_documents(
    paths: Sequence[str | os.PathLike[str]],
    options: CSVOptions | None = None,
    *,
    task: str,
    on_error: str,
    columns: Columns | None = None,
    inside: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of parquet files, with a few rows in memory at a time.

    The image column holds files as binary, paths or addresses as text, or Hugging Face's struct {bytes, path}, whose
    path counts only without bytes. Paths are relative to the file or to the working directory. The text column holds
    captions or lists of captions. Labels of a ClassLabel of Hugging Face are the names of its classes.

    Args:
        paths: of the files, in reading order.
        options: `size` and `sampling_rate`, over all files, and `convert_to_blob`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        columns: content -> name of its column; see `columns.find_columns`.
        inside: folder that images may not leave; None for any.

    Returns:
        Documents as in `samples.SampleReader`.

    Raises:
        InvalidInput: a file that is not parquet, lacks a column or has one of another type, at this call; no rows.
        InvalidDocument: invalid rows, numbered from 0, all named in one error after the last row.
    """
    options = options or CSVOptions()
    names = [os.fspath(path) for path in paths]
    files = columns_of(((path, parquet_schema(path)) for path in names), columns, task)
    return sample_documents(
        sampled(_rows(files, inside, options.links), options.sampling_rate),
        "parquet data",
        task,
        on_error,
        limit=options.size,
        convert_to_blob=options.convert_to_blob,
    )


def parquet_schema(path: str) -> Any:
    """Return the schema of a parquet file, a pyarrow.Schema.

    Raises:
        InvalidInput: not a parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(
            f"parquet file must be readable. Got {path!r} ({str(error)[:120]}). Check that it is whole and is parquet."
        ) from error


def _rows(
    files: Mapping[str, Found], inside: Path | None, links: LinkOptions
) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    import pyarrow as pa
    import pyarrow.parquet

    for path, columns in files.items():
        number, images = 0, LocalImages(Path(path).absolute().parent, inside, links)
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                names = class_names(file.schema_arrow, columns)
                for batch in file.iter_batches(batch_size=ROWS, columns=read_names(columns)):
                    for sample in table_samples(batch, columns, names, images):
                        yield f"{path} row {number}", sample
                        number += 1
        except (OSError, pa.ArrowException) as error:
            yield f"{path} from row {number}", InvalidDocument(f"file must be whole. Got an error: {str(error)[:120]}.")
