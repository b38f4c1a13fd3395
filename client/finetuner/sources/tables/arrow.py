"""Converts tables of Arrow to samples, and checks the types of their columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ...exceptions import InvalidInput
from ..local_images import LocalImages
from ..samples import Sample, named_sample
from .columns import Columns, Found, find_columns, read_names, say_columns

ROWS = 64
"""Rows that are Python objects at a time."""


def columns_of(schemas: Iterable[tuple[str, Any]], columns: Columns | None, task: str) -> dict[str, Found]:
    """Return the columns of each of several files, with their types checked; the log has those of the first.

    Args:
        schemas: path and schema, a pyarrow.Schema, of each file; read one by one.
        columns: content -> name of its column; see `columns.find_columns`.
        task: 'text-to-image' or 'image-to-image'.

    Raises:
        InvalidInput: a column that is missing or of another type.
    """
    files: dict[str, Found] = {}
    for path, schema in schemas:
        files[path] = find_columns(schema.names, columns, task, repr(path))
        check_types(schema, files[path], repr(path))
        if len(files) == 1:
            say_columns(files[path], schema.names, columns, repr(path))
    return files


def check_types(schema: Any, columns: Found, source: str) -> None:
    """Check the types of columns.

    Args:
        schema: of the table, a pyarrow.Schema.
        columns: content -> the names of its columns.
        source: name of the table, for messages.

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
        "negative": (is_captions, "text or lists of text (images are no negatives yet)"),
    }
    for content, name in [(content, name) for content, names in columns.items() for name in names]:
        kind, (test, words) = schema.field(name).type, expected[content]
        if not (pa.types.is_null(kind) or test(kind)):
            raise InvalidInput(
                f"column {name} must be {words}. Got {kind} in {source}. Convert it, or name another one: "
                f"columns={{{content!r}: ...}}."
            )


def class_names(schema: Any, columns: Found) -> list[str]:
    """Return the names of the classes that the numbers of the label column stand for; none if they are only numbers.

    Args:
        schema: a pyarrow.Schema; datasets writes its features, with ClassLabel and its names, into the metadata.
        columns: content -> the names of its columns.
    """
    (column,) = columns.get("label", ("",))
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        feature = described["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def with_class_name(sample: Sample, names: list[str]) -> Sample:
    """Return a sample with the name of its class as label, if it is the number of one. -1 stands for no label."""
    label = sample.get("label")
    if not names or not isinstance(label, int):
        return sample
    return {**sample, "label": names[label] if 0 <= label < len(names) else (None if label == -1 else label)}


def table_samples(table: Any, columns: Found, names: list[str], images: LocalImages) -> Iterator[Sample]:
    """Yield the samples of a table, ROWS of them in memory at a time.

    Args:
        table: a pyarrow.Table or RecordBatch.
        columns: content -> the names of its columns.
        names: of the classes; see `class_names`.
        images: reader of the images that the rows name.
    """
    kept = table.select(read_names(columns))
    for start in range(0, kept.num_rows, ROWS):
        for row in kept.slice(start, ROWS).to_pylist():
            yield with_class_name(named_sample(columns, row.__getitem__, images), names)
