"""Converts parquet files to documents, a few rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import InvalidDocument, InvalidInput
from ..local_images import LocalImages
from ..samples import Sample, named_sample, sample_documents, sampled
from .columns import Columns, Found, find_columns, read_names, say_columns
from .csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

ROWS = 64


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
    captions or lists of captions.

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
    files: dict[str, Found] = {}
    for path in (os.fspath(given) for given in paths):
        schema = parquet_schema(path)
        files[path] = find_columns(schema.names, columns, task, repr(path))
        _check_types(schema, files[path], path)
        if len(files) == 1:
            say_columns(files[path], schema.names, columns, repr(path))
    return sample_documents(
        sampled(_rows(files, inside), options.sampling_rate),
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


def _check_types(schema: Any, columns: Found, path: str) -> None:
    """Check the types of columns, from the file's schema.

    Raises:
        InvalidInput: a column of another type.
    """
    import pyarrow as pa

    def is_text(kind: Any) -> bool:
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        return any(test(values) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))

    def is_captions(kind: Any) -> bool:
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return is_text(kind.value_type if any(test(kind) for test in lists) else kind)

    def is_image(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            inner = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
            known = [inner[name] for name in ("bytes", "path") if name in inner]
            return bool(known) and all(pa.types.is_null(each) or is_image(each) for each in known)
        binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
        return is_text(kind) or any(test(kind) for test in binary)

    def is_number(kind: Any) -> bool:
        return is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)

    def is_label(kind: Any) -> bool:
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        return is_number(values) or pa.types.is_boolean(values)

    expected = {
        "image": (is_image, "binary, text (a path or an address) or a struct of bytes and path"),
        "text": (is_captions, "text or lists of text"),
        "label": (is_label, "text or numbers"),
        "score": (is_number, "numbers"),
        "language": (is_text, "text"),
    }
    for content, name in [(content, name) for content, names in columns.items() for name in names]:
        kind, (test, words) = schema.field(name).type, expected[content]
        if not (pa.types.is_null(kind) or test(kind)):
            raise InvalidInput(
                f"column {name} must be {words}. Got {kind} in {path!r}. Convert it, or name another one: "
                f"columns={{{content!r}: ...}}."
            )


def _rows(files: Mapping[str, Found], inside: Path | None) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    import pyarrow as pa
    import pyarrow.parquet

    for path, columns in files.items():
        number, images = 0, LocalImages(Path(path).absolute().parent, inside)
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS, columns=read_names(columns)):
                    for row in batch.to_pylist():
                        yield f"{path} row {number}", named_sample(columns, row.__getitem__, images)
                        number += 1
        except (OSError, pa.ArrowException) as error:
            yield f"{path} from row {number}", InvalidDocument(f"file must be whole. Got an error: {str(error)[:120]}.")
