"""A client of the Flow's encoders for the re-index. It uses the gateway, as every client does."""

from __future__ import annotations

from collections.abc import Sequence

from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.exceptions import FinetunerError, FinetunerServerError
from finetuner.transport.connection import Connection


class Encoders:
    """Encodes documents with an artifact through the gateway.

    Args:
        address: of the gateway, such as 'grpc://127.0.0.1:51000'.
        token: of the gateway.

    Raises:
        InvalidInput: the address has another form.
    """

    def __init__(self, address: str, token: str) -> None:
        self._flow = Connection(address, token)

    def __call__(self, artifact: str, documents: Sequence[Document]) -> list[Document]:
        """Return the documents in order, each with embedding and tag or with its error.

        Raises:
            FinetunerError: no answer, or embeddings of another artifact.
        """
        asked = DocumentArray(Document(document, copy=True) for document in documents)
        for number, document in enumerate(asked):
            document.id = str(number)  # an id may hold any text; a number survives every transport
            document.tags.clear()
            document.embedding = None
        answered = {document.id: document for document in self._flow.post(wire.ENCODE, asked, {"artifact": artifact})}
        if set(answered) != {str(number) for number in range(len(asked))}:
            error = next((error for document in answered.values() if (error := wire.error_of(document))), None)
            raise error or FinetunerServerError(f"/encode must answer {len(asked)} documents. Got {len(answered)}.")
        encoded = [answered[str(number)] for number in range(len(asked))]
        for document in encoded:
            made_by = document.tags.get(wire.ARTIFACT_TAG)
            if document.embedding is not None and made_by != artifact:
                raise FinetunerServerError(f"embeddings must be of artifact {artifact!r}. Got {made_by!r}.")
        return encoded


class NoEncoders:
    """Refuses to encode: the setting `encoder` has no address."""

    def __call__(self, artifact: str, documents: Sequence[Document]) -> list[Document]:
        """Raise FinetunerError."""
        raise FinetunerError(
            f"to encode by {artifact!r}, the indexer must know the Flow. Got no `encoder`. Set it to the gateway's "
            "address, such as grpc://127.0.0.1:51000."
        )
