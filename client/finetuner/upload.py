"""Datasets to and from a Flow, in requests of bounded size; half an upload is never a dataset."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import wire
from .connection import Connection
from .exceptions import InvalidDocument, InvalidInput
from .pairs import packed
from .progress import bar
from .uris import read_local
from .workspace import checked_name

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def push_documents(connection: Connection, name: str, documents: DocumentArray) -> dict[str, Any]:
    """Send pairs as the dataset `name`; pictures behind local paths travel inside the documents.

    Args:
        connection: to the Flow.
        name: 1 to 128 letters, digits, '.', '_' or '-'; a dataset of that name is replaced.
        documents: pairs, at least one; not changed.

    Returns:
        {'name', 'version' (SHA-256 of the content), 'documents', 'size' (bytes), 'created_at'}

    Raises:
        InvalidInput: an empty dataset or a wrong name.
        InvalidDocument: a pair with a missing side or an undecodable picture, with its position, from 0.
    """
    checked_name(name, "dataset name")
    if not len(documents):
        raise InvalidInput(f"dataset {name!r} must hold at least one document. Got none. Add pairs.")
    upload = uuid.uuid4().hex
    with bar(f"Uploading {name}", len(documents)) as advance:
        for part, batch in enumerate(batches(_packed(documents))):
            connection.send(wire.DATASETS_PUSH, batch, upload=upload, part=part)
            advance(len(batch))
    dataset: dict[str, Any] = connection.call(wire.DATASETS_PUSH, upload=upload, name=name, commit=len(documents))
    return dataset


def pull_documents(connection: Connection, name: str) -> DocumentArray:
    """Return the documents of a dataset.

    Raises:
        DatasetNotFound: none of that name.
    """
    from docarray import DocumentArray

    documents = DocumentArray()
    for part in itertools.count():
        batch = connection.post(wire.DATASETS_PULL, parameters={"name": name, "part": part})
        if not len(batch):
            return documents
        if (error := wire.error_of(batch[0])) is not None:
            raise error
        documents.extend(batch)
    raise AssertionError("count() does not end")


def batches(documents: Iterable[Document]) -> Iterator[DocumentArray]:
    """Yield the documents in requests of at most wire.MAX_REQUEST_BYTES, or of one larger document."""
    from docarray import DocumentArray

    batch, size = DocumentArray(), 0
    for document in documents:
        length = document.to_protobuf().ByteSize()
        if length > wire.MAX_MESSAGE_BYTES - 2**20:
            raise InvalidDocument(
                f"document {document.id} must be smaller than {wire.MAX_MESSAGE_BYTES} bytes. Got {length}."
            )
        if len(batch) and size + length > wire.MAX_REQUEST_BYTES:
            yield batch
            batch, size = DocumentArray(), 0
        batch.append(document)
        size += length
    if len(batch):
        yield batch


def _packed(documents: DocumentArray) -> Iterator[Document]:
    for position, document in enumerate(documents):
        try:
            yield packed(document, read_local)
        except InvalidDocument as error:
            raise InvalidDocument(f"document {position} ({document.id}): {error}") from error
