"""Converts the rows of a CSV file with a header to documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...exceptions import InvalidDocument
from ..rejects import Entries, checked_then_used
from ..samples import Sample, SampleReader, with_named_image
from .columns import find_columns, say_columns
from .csv_file import CsvFile, CSVOptions, Row

if TYPE_CHECKING:
    from docarray import Document


def named_csv_documents(
    file: CsvFile, options: CSVOptions, columns: Mapping[str, str] | None, *, task: str, on_error: str
) -> Iterator[Document]:
    """Return the documents of a CSV file with a header; images are read lazily.

    Args:
        file: with a header.
        options: of the CSV file; `is_labeled` has no effect.
        columns: content -> name of its column; see `columns.find_columns`.
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
    positions = {content: header.index(name) for content, name in found.items()}

    def sample_of(row: Row) -> Sample | InvalidDocument:
        if len(row.fields) != len(header):
            return InvalidDocument(
                f"row must have {len(header)} columns like the header. Got {len(row.fields)}. Check quotes and "
                f"CSVOptions(dialect=...)."
            )
        sample = {content: row.fields[position] or None for content, position in positions.items()}
        return with_named_image(sample, file.images)

    def entries() -> Entries[Sample]:
        return ((where, sample_of(row) if isinstance(row, Row) else row) for where, row in file.rows())

    reader = SampleReader(task, options.convert_to_blob)
    return checked_then_used(
        entries, reader.check, reader.documents, source=file.name, on_error=on_error, limit=options.size
    )
