"""Documents as the parts of a dataset that is not committed yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from finetuner.contract.wire import MAX_REQUEST_BYTES, MAX_REQUEST_DOCUMENTS
from finetuner.workspace.datasets import Datasets

from ..quota import UploadQuota, mark_owner

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def store(
    datasets: Datasets, quota: UploadQuota, upload: str, documents: Iterable[tuple[Document, int]], owner: str
) -> int:
    """Store documents as parts of an upload, and return their number.

    Args:
        datasets: of a workspace.
        quota: admits each part.
        upload: name of the parts.
        documents: each with its size as protobuf, in bytes.
        owner: name of the token that uploads.

    Raises:
        InsufficientStorage: see `UploadQuota`. The parts so far stay.
    """

    def admit(size: int) -> None:
        quota.admit(owner, size)
        mark_owner(datasets.upload_folder(upload), owner)

    count = 0
    for number, batch in enumerate(_batches(documents)):
        datasets.add_part(upload, number, batch, count, admit)
        count += len(batch)
    return count


def sized(documents: Iterable[Document]) -> Iterator[tuple[Document, int]]:
    """Yield documents with their sizes as `store` takes them."""
    for document in documents:
        yield document, len(document.to_bytes(protocol="protobuf"))


def _batches(documents: Iterable[tuple[Document, int]]) -> Iterator[DocumentArray]:
    from docarray import DocumentArray

    batch, size = DocumentArray(), 0
    for document, length in documents:
        if len(batch) and (size + length > MAX_REQUEST_BYTES or len(batch) >= MAX_REQUEST_DOCUMENTS):
            yield batch
            batch, size = DocumentArray(), 0
        batch.append(document)
        size += length
    if len(batch):
        yield batch
