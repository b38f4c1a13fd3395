"""Datasets to and from a Flow, in requests of bounded size; half an upload is never a dataset."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contract import wire
from ..contract.checks import checked_name
from ..documents import stream
from ..documents.content import check_document, content_digest, looks_like_pair
from ..documents.images import decode
from ..documents.pairs import with_image_blob
from ..documents.uris import read_local
from ..exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from ..progress import bar
from ..transport.connection import Connection

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def push_documents(connection: Connection, name: str, documents: Sequence[Document]) -> dict[str, Any]:
    """Send documents as the dataset `name`; images behind uris travel inside the documents.

    Content decides what is sent: what the Flow holds already under any name is not sent again, and an upload that
    broke off goes on where it stopped. Documents are read twice, to learn what they are and to send them; at most
    one request's worth is held.

    Args:
        connection: to the Flow.
        name: 1 to 128 letters, digits, '.', '_' or '-'; a dataset of that name is replaced.
        documents: a DocumentArray or another sequence, at least one, of any kind; not changed. Ids are no content:
            where the same documents are there under other ids, those stay.

    Returns:
        {'name', 'version' (SHA-256 of the content), 'documents', 'size' (bytes), 'created_at', 'stream_size', 'kind'}

    Raises:
        InvalidInput: an empty dataset or a wrong name.
        InvalidDocument: a document without content, a pair with a missing side or an undecodable image, with its
            position, from 0, and id. Nothing has been sent then.
    """
    checked_name(name, "dataset name")
    if not len(documents):
        raise InvalidInput(f"dataset {name!r} must hold at least one document. Got none. Add documents.")
    plan = _plan(name, documents)
    there = connection.call(wire.DATASETS_PUSH, upload=plan.upload, version=plan.version)
    if not there["stored"]:
        _send_missing(connection, name, documents, plan, {int(part) for part in there["parts"]})
    whole = {"name": name, "commit": len(documents), "version": plan.version}
    dataset: dict[str, Any] = connection.call(wire.DATASETS_PUSH, upload=plan.upload, **whole)
    return dataset


@dataclass(frozen=True)
class Plan:
    """What an upload will be."""

    version: str
    """SHA-256 of the content, as the Flow will compute it."""
    lengths: list[int]
    """Documents in each part."""

    @property
    def upload(self) -> str:
        """The same for the same content in the same parts, so that what arrived before can be used."""
        return hashlib.sha256(f"{self.version} {self.lengths}".encode()).hexdigest()


def _plan(name: str, documents: Sequence[Document]) -> Plan:
    from docarray import Document

    digest, lengths = hashlib.sha256(), []
    with bar(f"Reading {name}", len(documents)) as advance:
        for batch in batches(_packed(documents)):
            for document in batch:
                # once there and back, as on the way to the Flow: reading adds what a document by hand may lack
                again = Document.from_bytes(document.to_bytes(protocol="protobuf"), protocol="protobuf")
                digest.update(content_digest(again.to_bytes(protocol="protobuf")))
            lengths.append(len(batch))
            advance(len(batch))
    return Plan(digest.hexdigest(), lengths)


def _send_missing(
    connection: Connection, name: str, documents: Sequence[Document], plan: Plan, there: Collection[int]
) -> None:
    from docarray import DocumentArray

    first = 0
    with bar(f"Uploading {name}", len(documents)) as advance:
        for part, length in enumerate(plan.lengths):
            if part not in there:
                batch = DocumentArray(_packed(documents[first : first + length], first, check=False))
                connection.send(wire.DATASETS_PUSH, batch, upload=plan.upload, part=part, first=first)
            advance(length)
            first += length


def pull_documents(connection: Connection, name: str) -> DocumentArray:
    """Return the documents of a dataset, all of one version also where the name gets another meanwhile.

    Raises:
        DatasetNotFound: none of that name.
    """
    from docarray import DocumentArray

    (dataset,) = connection.call(wire.DATASETS_LIST, name=name)
    documents = DocumentArray()
    for part in itertools.count():
        batch = connection.post(wire.DATASETS_PULL, parameters={"version": dataset["version"], "part": part})
        if len(batch) and (error := wire.error_of(batch[0])) is not None:
            raise error
        documents.extend(batch)
        if not len(batch) or len(documents) >= dataset["documents"]:
            break
    if len(documents) != dataset["documents"]:
        raise DatasetNotFound(
            f"dataset {name!r} must come with its {dataset['documents']} documents. Got {len(documents)}. "
            f"Pull it again."
        )
    return documents


def batches(documents: Iterable[Document]) -> Iterator[DocumentArray]:
    """Yield the documents in requests of at most wire.MAX_REQUEST_BYTES, or of one larger document."""
    from docarray import DocumentArray

    batch, size = DocumentArray(), 0
    for document in documents:
        length = document.to_protobuf().ByteSize()
        if length > stream.largest_document():
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


def _packed(documents: Iterable[Document], first: int = 0, *, check: bool = True) -> Iterator[Document]:
    for position, document in enumerate(documents, first):
        try:
            if looks_like_pair(document):
                yield with_image_blob(document, read_local, check=check)
            else:
                check_document(document)
                yield with_images(document, check)
        except InvalidDocument as error:
            raise InvalidDocument(f"document {position} ({document.id}): {error}") from error


def with_images(document: Document, check: bool = False) -> Document:
    """Return a document that carries the images which it and its chunks only point to.

    Args:
        document: not changed.
        check: whether these images must be ones that can be decoded.
    """
    from docarray import Document

    elsewhere = document.uri and not document.uri.startswith("data:")
    pointer = elsewhere and not (document.text or document.blob) and document.tensor is None
    if not pointer and not len(document.chunks):
        return document
    copy = Document(document, copy=True)
    if pointer:
        copy.blob = read_local(document.uri)
        if check:
            decode(copy.blob)
    copy.chunks = [with_images(chunk, check) for chunk in document.chunks]
    return copy
