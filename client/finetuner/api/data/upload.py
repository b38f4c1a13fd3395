"""Pushes and pulls datasets in requests of bounded size. An incomplete upload never becomes a dataset."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...contract import wire
from ...contract.checks import checked_name
from ...contract.several import several
from ...documents import stream
from ...documents.carried import carried
from ...documents.content import check_document, content_digest, looks_like_pair
from ...documents.images import decode
from ...documents.iterate import read_each, with_parts
from ...documents.pairs import with_image_blob
from ...documents.uris import read_local
from ...exceptions import DatasetNotFound, InvalidDocument, InvalidInput
from ...progress import bar
from ...sources.spool import Spool
from ...transport.connection import Connection

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def several_documents(argument: str, documents: object) -> Iterator[Document]:
    """Yield the documents of an argument: one, or any iterable of them.

    Raises:
        InvalidInput: something else; the message names the argument.
    """
    from docarray import Document

    return several(argument, documents, Document, "a DocumentArray, a Document, or several Documents")


def push_documents(connection: Connection, name: str, documents: Document | Iterable[Document]) -> dict[str, Any]:
    """Send documents to the Flow as the dataset `name`, with the images that their uris point to.

    Content that the Flow already stores under any name is not sent again, and an interrupted upload resumes with the
    missing parts. Documents are read twice: once to hash them and once to send them. At most one request's worth of
    documents is held in memory.

    Args:
        connection: connection to the Flow.
        name: 1 to 128 letters, digits, '.', '_' or '-'; replaces a dataset of that name.
        documents: a DocumentArray, one document, or any iterable of at least one document of any kind; not changed. A
            generator is read once, into a temporary file. Ids are not content: if the Flow stores the same documents
            with other ids, it keeps those ids.

    Returns:
        {'name', 'version' (SHA-256 of the content), 'documents', 'size' (bytes), 'created_at', 'stream_size', 'kind'}

    Raises:
        InvalidInput: the dataset is empty or holds something else, or the name is malformed.
        InvalidDocument: a document has no content, a pair lacks a side, an image cannot be decoded, or the wire cannot
            carry a value; see `carried`. The message has the document's position, from 0, and its id. In this case
            nothing has been sent.
    """
    from docarray import DocumentArray

    checked_name(name, "dataset name")
    if not isinstance(documents, Spool | DocumentArray):
        with Spool(read_each(several_documents("documents", documents), carried)) as spool:
            return push_documents(connection, name, spool)
    if not len(documents):
        raise InvalidInput(f"dataset {name!r} must hold at least one document. Got none. Add documents.")
    plan = _plan(name, documents)
    received = connection.call(wire.DATASETS_PUSH, upload=plan.upload, version=plan.version)
    if not received["stored"]:
        _send_missing(connection, name, documents, plan, {int(part) for part in received["parts"]})
    commit = {"name": name, "commit": len(documents), "version": plan.version}
    dataset: dict[str, Any] = connection.call(wire.DATASETS_PUSH, upload=plan.upload, **commit)
    return dataset


@dataclass(frozen=True)
class UploadPlan:
    """Content hash and parts of an upload."""

    version: str
    """SHA-256 of the content, as the Flow computes it."""
    lengths: list[int]
    """Number of documents in each part."""

    @property
    def upload(self) -> str:
        """Id of the upload. The same content in the same parts has the same id, which lets an upload resume."""
        return hashlib.sha256(f"{self.version} {self.lengths}".encode()).hexdigest()


def _plan(name: str, documents: Sequence[Document]) -> UploadPlan:
    from docarray import Document

    digest, lengths = hashlib.sha256(), []
    with bar(f"Reading {name}", len(documents)) as advance:
        for batch in batches(_packed(documents)):
            for document in batch:
                # Serialise twice: the Flow hashes a parsed document, and parsing sets fields that may be unset here.
                parsed = Document.from_bytes(document.to_bytes(protocol="protobuf"), protocol="protobuf")
                digest.update(content_digest(parsed.to_bytes(protocol="protobuf")))
            lengths.append(len(batch))
            advance(len(batch))
    return UploadPlan(digest.hexdigest(), lengths)


def _send_missing(
    connection: Connection, name: str, documents: Sequence[Document], plan: UploadPlan, received: Collection[int]
) -> None:
    from docarray import DocumentArray

    first = 0
    with bar(f"Uploading {name}", len(documents)) as advance:
        for part, length in enumerate(plan.lengths):
            if part not in received:
                batch = DocumentArray(_packed(documents[first : first + length], first, check=False))
                connection.send(wire.DATASETS_PUSH, batch, upload=plan.upload, part=part, first=first)
            advance(length)
            first += length


def pull_documents(connection: Connection, name: str) -> DocumentArray:
    """Return the documents of a dataset; see `iterate_documents`."""
    from docarray import DocumentArray

    return DocumentArray(iterate_documents(connection, name))


def iterate_documents(connection: Connection, name: str) -> Iterator[Document]:
    """Yield the documents of a dataset, all of one version even if the dataset is replaced meanwhile.

    Raises:
        DatasetNotFound: no dataset has that name, or the Flow sent fewer documents than the dataset has.
    """
    (dataset,) = connection.call(wire.DATASETS_LIST, name=name)
    received = 0
    for part in itertools.count():
        batch = connection.post(wire.DATASETS_PULL, parameters={"version": dataset["version"], "part": part})
        if len(batch) and (error := wire.error_of(batch[0])) is not None:
            raise error
        received += len(batch)
        yield from batch
        if not len(batch) or received >= dataset["documents"]:
            break
    if received != dataset["documents"]:
        raise DatasetNotFound(
            f"dataset {name!r} must arrive with its {dataset['documents']} documents. Got {received}. Pull it again."
        )


def batches(documents: Iterable[Document]) -> Iterator[DocumentArray]:
    """Yield batches of at most wire.MAX_REQUEST_BYTES and wire.MAX_REQUEST_DOCUMENTS; a larger document comes alone.

    Raises:
        InvalidDocument: a document is too large for one message, or has too many chunks and matches.
    """
    from docarray import DocumentArray

    batch, size, count = DocumentArray(), 0, 0
    for document in documents:
        parts = sum(1 for _ in with_parts(document))
        if parts > wire.MAX_MESSAGE_DOCUMENTS:
            raise InvalidDocument(
                f"document {document.id} must have less than {wire.MAX_MESSAGE_DOCUMENTS} chunks and matches. "
                f"Got {parts - 1}. Send several documents."
            )
        length = document.to_protobuf().ByteSize()
        if length > stream.largest_document():
            raise InvalidDocument(
                f"document {document.id} must be smaller than {wire.MAX_MESSAGE_BYTES} bytes. Got {length}. "
                f"Shrink its image or tensor."
            )
        full = size + length > wire.MAX_REQUEST_BYTES or count + parts > wire.MAX_REQUEST_DOCUMENTS
        if len(batch) and full:
            yield batch
            batch, size, count = DocumentArray(), 0, 0
        batch.append(document)
        size, count = size + length, count + parts
    if len(batch):
        yield batch


def _packed(documents: Iterable[Document], first: int = 0, *, check: bool = True) -> Iterator[Document]:
    def packed(document: Document) -> Document:
        document = carried(document)
        if looks_like_pair(document):
            return with_image_blob(document, read_local, check=check)
        check_document(document)
        return with_images(document, check)

    return read_each(documents, packed, first)


def with_images(document: Document, check: bool = False) -> Document:
    """Return a document that holds the bytes of the images that its uri and its chunks' uris point to.

    Args:
        document: not changed.
        check: whether to decode these images, which raises an error for a broken one.

    Raises:
        InvalidDocument: an image cannot be read or, with `check`, decoded.
    """
    from docarray import Document

    outside = document.uri and not document.uri.startswith("data:")
    needs_image = outside and not (document.text or document.blob) and document.tensor is None
    if not needs_image and not len(document.chunks):
        return document
    copy = Document(document, copy=True)
    if needs_image:
        copy.blob = read_local(document.uri)
        if check:
            decode(copy.blob)
    copy.chunks = [with_images(chunk, check) for chunk in document.chunks]
    return copy
