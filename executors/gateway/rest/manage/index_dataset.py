"""Index a stored dataset, one of its parts a request: /v1/datasets/{dataset}/index."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from docarray.proto.docarray_pb2 import DocumentProto
from fastapi import Request, Response
from pydantic import Field

from finetuner.artifacts.registry import LIVE
from finetuner.contract import wire

from .. import documents
from ..answers import answer
from ..document_forms import MAX_REFERENCE, REFERENCE, RESERVED, DocumentError
from ..form import Answer, Form
from ..route import RoomsOf, router
from ..run_forms import MAX_OFFSET
from ..v1_library import DatasetName

CAPTION = "caption"
MOST_FAILED = 100

routes = router("Library", "/v1")


class IndexDatasetForm(Form):
    """A part of a dataset to index."""

    version: str = Field("", max_length=64, description="`version` of the first answer; '' takes the present one.")
    part: int = Field(0, ge=0, le=MAX_OFFSET, description="`next` of the answer before.")
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"Model that encodes. {REFERENCE}")


class FailedDocument(Answer):
    """A document that is not indexed."""

    id: str = Field(..., description="Id that it would have.")
    error: DocumentError


class IndexedPart(Answer):
    """The result for one part. Indexed documents are on disk."""

    version: str = Field(..., description="Version of the dataset that is indexed.")
    documents: int = Field(..., description="Number of documents in this part; equal images are one document.")
    indexed: int = Field(..., description="Number of those that are indexed now.")
    failed: list[FailedDocument] = Field(..., description=f"The first {MOST_FAILED} that are not.")
    next: int | None = Field(..., description="Number of the next part, null at the end.")


@routes.post("/datasets/{name}/index", summary="Index a part of a dataset", response_model=IndexedPart)
async def index_dataset(name: DatasetName, form: IndexDatasetForm, rooms: RoomsOf, request: Request) -> Response:
    """Index the images of a dataset, a part of at most 1,024 documents at a time, beginning with part 0.

    A pair becomes its image, with the caption as the tag `caption`. The id is made from the image, so that a dataset
    that is indexed twice, or in a newer version, has no document twice.
    """
    await rooms.require(wire.FILTER)
    version = form.version or (await rooms.call(wire.DATASETS_LIST, name=name))[0]["version"]
    stored = documents.or_raise(await rooms.post(wire.DATASETS_PULL, version=version, part=form.part))
    asked = await documents.described(stored, partial(as_indexed, stored))
    if (entry := getattr(request.state, "entry", None)) is not None:
        entry.documents = len(asked)  # for the audit log
    answered = await rooms.post(wire.INDEX, asked, artifact=form.artifact) if asked else []
    documents.require_all(answered, asked)
    failed = [(each.id, error) for each in answered if (error := documents.error_of(each)) is not None]
    return answer(
        {
            "version": version,
            "documents": len(asked),
            "indexed": len(asked) - len(failed),
            "failed": [{"id": id_, "error": error} for id_, error in failed[:MOST_FAILED]],
            "next": form.part + 1 if stored else None,
        }
    )


def as_indexed(stored: list[Any]) -> list[Any]:
    """Return the documents of a dataset as those of an index, equal ones once. Arguments and result are messages."""
    made: dict[str, Any] = {}
    for document in stored:
        parts = [document, *document.chunks]
        image = next((each for each in parts if _is_image(each)), None)
        text = next((each.text for each in parts if each.WhichOneof("content") == "text" and each.text), "")
        indexed = DocumentProto()
        if image is None:
            indexed.text, indexed.mime_type = text, "text/plain"
        else:
            _copy_image(image, indexed)
        for name, value in document.tags.fields.items():
            if name not in (*RESERVED, wire.SCORE_TAG, wire.NEGATIVES_TAG):
                indexed.tags.fields[name].CopyFrom(value)
        if image is not None and text and CAPTION not in indexed.tags.fields:
            indexed.tags[CAPTION] = text
        if image is not None or text:
            indexed.id = id_of(indexed)
            made.setdefault(indexed.id, indexed)
    return [*made.values()]


def id_of(document: Any) -> str:
    """Return the id of a document of a dataset: 24 hex characters of the hash of its content."""
    kind = document.WhichOneof("content")
    content = document.tensor.SerializeToString() if kind == "tensor" else getattr(document, kind or "uri")
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:24]


def _is_image(part: Any) -> bool:
    return part.WhichOneof("content") in ("blob", "tensor") or (part.WhichOneof("content") is None and bool(part.uri))


def _copy_image(image: Any, target: Any) -> None:
    match image.WhichOneof("content"):
        case "blob":
            target.blob = image.blob
        case "tensor":
            target.tensor.CopyFrom(image.tensor)
        case _:
            target.uri = image.uri
    target.mime_type = image.mime_type
