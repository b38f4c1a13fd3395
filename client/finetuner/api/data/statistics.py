"""Statistics of data before it is trained on: documents, files, or a dataset of the Flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...contract.checks import whole
from ...exceptions import InvalidDocument
from ...models.backbones import find_backbone
from ...progress import bar
from ...sources.kinds import documents_from, is_source
from ...statistics.describe import Collector
from ...statistics.report import Report, report_of
from ...statistics.tokens import TokenCounter, counter_or_reason
from ..session import connection
from .upload import iterate_documents, several_documents, with_images

if TYPE_CHECKING:
    from docarray import Document

    from ...sources.tables.csv_file import CSVOptions


def data_stats(
    data: Any,
    eval_data: Any = None,
    *,
    model: str = "clip-base-en",
    batch_size: int | None = None,
    csv_options: CSVOptions | None = None,
    columns: Mapping[str, str] | None = None,
    on_error: str = "raise",
) -> Report:
    """Return the statistics of data, and the troubles that they predict, before anything is trained or sent.

    Files and documents are read on this machine, without a Flow. Images are decoded one by one, the first 20,000
    different files at most; time and memory are bounded by that.

    Args:
        data: given like `train_data` of `fit`: documents, files, or the name of a dataset, which is fetched.
        eval_data: given likewise; the report then has its overlap with `data`.
        model: backbone whose task decides how files are read, and whose tokenizer counts the tokens of captions.
        batch_size: of the training, for the number of false negatives in a batch; None takes the backbone's own.
        csv_options: as in `fit`.
        columns: as in `fit`.
        on_error: as in `fit`.

    Raises:
        InvalidInput: no data, or an option that is not allowed.
        InvalidDocument: invalid entries of a file.
        DatasetNotFound: neither a file nor a dataset.
        NoSuchModel: unknown backbone.
    """
    row = find_backbone(model)
    batch = whole("batch_size", row.batch_size if batch_size is None else batch_size, 2, 2**20)
    counter, reason = counter_or_reason(row)
    options: dict[str, Any] = {
        "csv_options": csv_options, "columns": columns, "on_error": on_error, "task": row.task,
    }  # fmt: skip
    train, evaluation = (
        None if given is None else _collected(argument, given, options, counter)
        for argument, given in (("data", data), ("eval_data", eval_data))
    )
    assert train is not None
    return report_of(train, evaluation, batch, reason)


def _collected(argument: str, data: Any, options: Mapping[str, Any], counter: TokenCounter | None) -> Collector:
    documents: Iterator[Document]
    if is_source(data):
        documents = documents_from(data, **options)
    elif isinstance(data, str):
        documents = iterate_documents(connection(), data)
    else:
        documents = map(_with_images, several_documents(argument, data))
    collector = Collector(counter)
    with bar("Reading the data" if argument == "data" else "Reading the evaluation data", None) as advance:
        for document in documents:
            collector.add(document)
            advance(1)
    return collector


def _with_images(document: Document) -> Document:
    with suppress(InvalidDocument):  # an image that cannot be read stays an address, and is counted as one
        return with_images(document)
    return document
