"""Converts the rows of a CSV file with a header to documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...exceptions import InvalidDocument
from ..rejects import Entries, checked_then_used
from ..samples import Sample, SampleReader, named_sample
from .columns import Columns, find_columns, read_names, say_columns
from .csv_file import CsvFile, CSVOptions, Row

if TYPE_CHECKING:
    from docarray import Document


def named_csv_documents(
    file: CsvFile, options: CSVOptions, columns: Columns | None, *, task: str, on_error: str
) -> Iterator[Document]:
    """Return the documents of a CSV file with a header; images are read lazily.

    Args:
        file: with a header.
        options: of the CSV file; `is_labeled` has no effect.
        columns: content -> names of its columns; see `columns.find_columns`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Documents as in `samples.SampleReader`. An empty column is a missing value.

    Raises:
        InvalidInput: a header that does not tell, or no rows.
        InvalidDocument: invalid lines, all named in one error at this call.
    """
    header = file.header
    assert header is not None
    found = find_columns(header, columns, task, repr(file.name))
    say_columns(found, header, columns, repr(file.name))
    positions = {name: header.index(name) for name in read_names(found)}

    def sample_of(row: Row) -> Sample | InvalidDocument:
        if len(row.fields) != len(header):
            return InvalidDocument(
                f"row must have {len(header)} columns like the header. Got {len(row.fields)}. Check quotes and "
                f"CSVOptions(dialect=...)."
            )
        return named_sample(found, lambda name: row.fields[positions[name]] or None, file.images)

    def entries() -> Entries[Sample]:
        return ((where, sample_of(row) if isinstance(row, Row) else row) for where, row in file.rows())

    reader = SampleReader(task, options.convert_to_blob)
    return checked_then_used(
        entries,
        reader.check,
        reader.documents,
        source=file.name,
        on_error=on_error,
        limit=options.size,
        start=reader.start,
    )
