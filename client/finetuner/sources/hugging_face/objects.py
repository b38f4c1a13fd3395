"""Reads data sets of Hugging Face's datasets as objects. They are known by their classes' names, without an import."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...documents.images import check_size
from ...exceptions import InvalidDocument, InvalidInput
from ..local_images import LocalImages
from ..samples import Sample, named_sample, sample_documents, sampled
from ..tables.arrow import ROWS, check_types, class_names, table_samples, with_class_name
from ..tables.columns import Columns, Found, find_columns, read_names, say_columns
from ..tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

TABLES = ("Dataset",)
STREAMS = ("IterableDataset",)
SPLITS = ("DatasetDict", "IterableDatasetDict")


def kind_of_object(data: object) -> str:
    """Return the name of the class of datasets that an object is of: one of TABLES, STREAMS and SPLITS, or ''."""
    for each in type(data).__mro__:
        if each.__module__.partition(".")[0] == "datasets" and each.__name__ in (*TABLES, *STREAMS, *SPLITS):
            return each.__name__
    return ""


def object_documents(
    data: Any, options: CSVOptions | None = None, *, task: str, on_error: str, columns: Columns | None = None
) -> Iterator[Document]:
    """Return the documents of a Dataset, an IterableDataset, or a dictionary of one of them.

    The image column is an Image feature, decoded or not, whose file is taken as it is; or text or binary, as in
    `parquet_file.parquet_documents`. An image that only Pillow has, such as one of a generator without features,
    becomes a PNG file. The labels of a ClassLabel are the names of its classes. The transform of `set_transform` is not
    applied.

    Args:
        data: read once; a Dataset with a few rows in memory at a time.
        options: `size`, `sampling_rate` and `convert_to_blob`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        columns: content -> name of its column; see `columns.find_columns`.

    Returns:
        Documents as in `samples.SampleReader`.

    Raises:
        InvalidInput: several splits, or a column that is missing or of another type, at this call; no rows.
        InvalidDocument: invalid rows, numbered from 0, all named in one error after the last row.
    """
    options = options or CSVOptions()
    kind = kind_of_object(data)
    if kind in SPLITS:
        if len(data) != 1:
            shown = ", ".join(f"data[{split!r}]" for split in [*data][:20]) or "none"
            raise InvalidInput(f"data must be one split. Got a {kind} with {len(data)}: {shown}. Pass one of them.")
        (data,) = data.values()
        kind = kind_of_object(data)
    source = f"the {kind}"
    names = _column_names(data)
    found = find_columns(names, columns, task, source)
    schema = data.features.arrow_schema if data.features is not None else None
    if schema is not None:
        check_types(schema, found, source)
    say_columns(found, names, columns, source)
    classes = class_names(schema, found) if schema is not None else []
    images = LocalImages(links=options.links)
    rows = (_table_rows if kind in TABLES else _stream_rows)(data, found, classes, images)
    return sample_documents(
        sampled(((f"row {number}", sample) for number, sample in enumerate(rows)), options.sampling_rate),
        source,
        task,
        on_error,
        limit=options.size,
        convert_to_blob=options.convert_to_blob,
    )


def _column_names(data: Any) -> list[str]:
    if data.column_names is not None:
        return list(data.column_names)
    first = next(iter(data), None)
    if not isinstance(first, Mapping):
        raise InvalidInput(f"the IterableDataset must have rows with named columns. Got {first!r:.60}. Add them.")
    return [str(name) for name in first]


def _table_rows(
    data: Any, columns: Found, classes: list[str], images: LocalImages
) -> Iterator[Sample | InvalidDocument]:
    """Yield the samples of a Dataset as Arrow stores them, with images that are not decoded."""
    for table in data.select_columns(read_names(columns)).with_format("arrow").iter(batch_size=ROWS):
        yield from table_samples(table, columns, classes, images)


def _stream_rows(
    data: Any, columns: Found, classes: list[str], images: LocalImages
) -> Iterator[Sample | InvalidDocument]:
    names, data = read_names(columns), data.with_format(None)
    for name in names if data.features is not None else ():
        feature = data.features[name]
        if type(feature).__name__ == "Image":
            data = data.cast_column(name, type(feature)(decode=False))
    for row in data:
        try:
            values = {name: _as_file(row.get(name)) for name in names}
            yield with_class_name(named_sample(columns, values.__getitem__, images), classes)
        except InvalidDocument as error:
            yield error


def _as_file(value: object) -> object:
    """Return the bytes of a PNG file for an image of Pillow, another value unchanged."""
    from PIL import Image

    if not isinstance(value, Image.Image):
        return value
    check_size("image", value.width, value.height)
    buffer = io.BytesIO()
    try:
        value.save(buffer, "PNG", exif=value.getexif())
    except (OSError, ValueError) as error:
        raise InvalidDocument(f"image must have a mode that PNG has. Got {value.mode}. Convert it to RGB.") from error
    return buffer.getvalue()
