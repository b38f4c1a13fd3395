"""Routes that encode, index and search documents: /v1/encode, /v1/search, /v1/index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastapi import Request, Response
from pydantic import Field

from finetuner.artifacts.registry import LIVE
from finetuner.contract import wire
from finetuner.contract.dimensions import MAX_DIMENSIONS

from . import documents
from .answers import answer
from .document_forms import (
    ARTIFACT,
    DIMENSIONS,
    MAX_DOCUMENTS,
    MAX_REFERENCE,
    REFERENCE,
    Document,
    DocumentError,
    Encoded,
    Found,
    Match,
)
from .form import Answer, Form
from .npy import DESCRIBED, as_npy, wants_npy
from .route import RoomsOf, router

MAX_QUERIES = 128
MAX_LIMIT, MAX_OFFSET = 1000, 100_000
MAX_IDS = 10_000
FILTER = (
    'Conditions over tags: `{"price": {"$lt": 50}}` with $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $and, '
    '$or, $not; or Qdrant\'s `{"must": [...]}`. null and `{}` accept every document.'
)
OFFSET = "Number of best matches to skip."
CONTENT = "Whether to return content, not only ids and tags."
THUMBNAILS = "Return images as JPEGs of at most 256 pixels a side."


class EncodeForm(Form):
    """Documents to encode."""

    documents: list[Document] = Field(
        ..., min_items=1, max_items=MAX_DOCUMENTS, description="The answer has the same order."
    )
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    dimensions: int | None = Field(None, ge=1, le=MAX_DIMENSIONS, description=DIMENSIONS)


class EncodeAnswer(Answer):
    """The embeddings of the documents."""

    documents: list[Encoded]
    detail: str | None = Field(None, description="The first error, if every document has one.")


class SearchForm(Form):
    """Queries."""

    queries: list[Document] = Field(
        ..., min_items=1, max_items=MAX_QUERIES, description="The answer has the same order."
    )
    artifact: str = Field(
        LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"Embeddings to search. {REFERENCE}"
    )
    limit: int = Field(20, ge=1, le=MAX_LIMIT, description="Matches per query.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description=OFFSET)
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Lowest cosine similarity of a match.")
    exact: bool = Field(False, description="Compare with every embedding, even if there is a graph.")
    return_content: bool = Field(True, description=CONTENT)
    thumbnails: bool = Field(False, description=THUMBNAILS)


class QueryAnswer(Answer):
    """The matches of one query, or its error."""

    id: str = Field(..., description="Id of the query.")
    artifact: str | None = Field(None, description=ARTIFACT)
    matches: list[Match] | None = Field(None, description="Best first.")
    error: DocumentError | None = Field(None, description="Instead of the other two.")


class SearchAnswer(Answer):
    """The matches of all queries."""

    queries: list[QueryAnswer]
    detail: str | None = Field(None, description="The first error, if every query has one.")


class IndexForm(Form):
    """Documents to index."""

    documents: list[Document] = Field(
        ..., min_items=1, max_items=MAX_DOCUMENTS, description="The answer has the same order."
    )
    artifact: str = Field(
        LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"Model that encodes the documents. {REFERENCE}"
    )


class Indexed(Answer):
    """An indexed document, or its error."""

    id: str = Field(..., description="Id of the document.")
    error: DocumentError | None = Field(None, description="Error of a document that is not indexed.")


class IndexAnswer(Answer):
    """The result for each document. Indexed documents are on disk."""

    indexed: int = Field(..., description="Number of indexed documents.")
    documents: list[Indexed]
    detail: str | None = Field(None, description="The first error, if every document has one.")


class Collection(Answer):
    """The embeddings of one artifact."""

    artifact: str = Field(..., description="The artifact or backbone.")
    dim: int = Field(..., description="Size of an embedding.")
    count: int = Field(..., description="Number of embeddings.")
    indexed: int = Field(..., description="Number of embeddings in the graph.")


class IndexStatus(Answer):
    """The state of the index."""

    documents: int = Field(..., description="Number of documents.")
    bytes: int = Field(..., description="Bytes on the index's disk.")
    engine: str = Field(..., description="Search engine.")
    collections: list[Collection]
    searched: str = Field(
        ..., description="Artifact whose embeddings 'live' searches, '' if nothing is indexed for it."
    )
    promoted: str = Field(..., description="Artifact promoted last, '' if none was.")
    building: str = Field(..., description="Artifact whose graph is being built, or ''.")
    problems: list[str] = Field(
        ..., description="Problems that slow the index down or harm its results, one sentence each."
    )
    reindex: dict[str, Any] | None = Field(None, description="Progress of the last re-index.")


class DeleteForm(Form):
    """Documents to delete, by id, filter, or both."""

    ids: list[str] | None = Field(None, min_items=1, max_items=MAX_IDS, description="Ids; unknown ones are ignored.")
    filter: dict[str, Any] | None = Field(None, description=FILTER.replace("accept every document", "are no condition"))


class DeleteAnswer(Answer):
    """The result of a deletion."""

    deleted: int = Field(..., description="Number of deleted documents.")


class FilterForm(Form):
    """A filter of documents."""

    filter: dict[str, Any] | None = Field(None, description=FILTER)
    limit: int = Field(20, ge=1, le=MAX_LIMIT, description="Maximum number of documents.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description=OFFSET.replace("best matches", "documents"))
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"Model of the index. {REFERENCE}")
    return_content: bool = Field(True, description=CONTENT)
    thumbnails: bool = Field(False, description=THUMBNAILS)


class FilterAnswer(Answer):
    """Documents that pass a filter."""

    documents: list[Found]


routes, without_documents = router("Documents", "/v1", documents=True), router("Documents", "/v1")


@routes.post("/encode", summary="Encode documents", response_model=EncodeAnswer, responses=DESCRIBED)
async def encode(form: EncodeForm, rooms: RoomsOf, request: Request) -> Response:
    """Encode texts and images. Documents with several parts are only for index and search."""
    await rooms.require(wire.ENCODE)
    asked = await documents.to_messages(form.documents)
    answered = await rooms.post(wire.ENCODE, asked, **_given(form, "documents"))
    documents.require_all(answered, asked)
    if wants_npy(request):
        return await documents.described(answered, partial(as_npy, answered, "documents"))
    return await documents.described(answered, partial(_listed, "documents", answered, documents.encoded))


@routes.post("/search", summary="Search documents", response_model=SearchAnswer)
async def search(form: SearchForm, rooms: RoomsOf) -> Response:
    """Find the indexed documents nearest to each query."""
    await rooms.require(wire.FILTER)  # only an index binds it; encoders bind /search too
    asked = await documents.to_messages(form.queries, "queries")
    answered = await rooms.post(wire.SEARCH, asked, **_given(form, "queries"))
    documents.require_all(answered, asked)
    return await documents.described(answered, partial(_listed, "queries", answered, _searched))


@routes.post("/index", summary="Index documents", response_model=IndexAnswer)
async def index(form: IndexForm, rooms: RoomsOf, request: Request) -> Response:
    """Encode documents and store them. A document replaces an older one with the same id."""
    await rooms.require(wire.FILTER)
    asked = await documents.to_messages(form.documents)
    if (entry := getattr(request.state, "entry", None)) is not None:
        entry.documents = len(asked)  # for the audit log
    answered = await rooms.post(wire.INDEX, asked, artifact=form.artifact)
    documents.require_all(answered, asked)
    stored = sum(documents.error_of(message) is None for message in answered)
    return await documents.described(answered, partial(_listed, "documents", answered, _indexed, indexed=stored))


@routes.get("/index", summary="Get the state of the index", response_model=IndexStatus)
async def index_status(rooms: RoomsOf) -> Response:
    """Return the collections of the index, the target of `live`, and the progress of a re-index."""
    await rooms.require(wire.STATUS)
    return answer(await rooms.call(wire.STATUS))


@without_documents.post("/index/delete", summary="Delete documents", response_model=DeleteAnswer)
async def delete(form: DeleteForm, rooms: RoomsOf) -> Response:
    """Delete documents by id or filter, with their embeddings of every artifact."""
    await rooms.require(wire.DELETE)
    return answer(await rooms.call(wire.DELETE, **_given(form)))


@without_documents.post("/index/filter", summary="List documents", response_model=FilterAnswer)
async def filter_index(form: FilterForm, rooms: RoomsOf) -> Response:
    """Return the indexed documents that pass a filter, in a stable order."""
    await rooms.require(wire.FILTER)
    answered = documents.or_raise(await rooms.post(wire.FILTER, **_given(form)))
    return await asyncio.to_thread(lambda: answer({"documents": [documents.found(message) for message in answered]}))


def _given(form: Form, *without: str) -> dict[str, Any]:
    """Return the parameters of a request that are not null."""
    return form.dict(exclude=set(without), exclude_none=True)


def _listed(name: str, messages: Sequence[Any], described: Callable[[Any], dict[str, Any]], **more: Any) -> Response:
    """Return the result of each document. If all have failed, the answer has the status of their errors."""
    errors = [documents.error_of(message) for message in messages]
    status = documents.status_of(errors)
    content = {**more, name: [described(message) for message in messages]}
    if status != 200 and errors[0] is not None:
        content["detail"] = errors[0]["message"]
    return answer(content, status)


def _searched(query: Any) -> dict[str, Any]:
    if (error := documents.error_of(query)) is not None:
        return {"id": query.id, "error": error}
    matches = [documents.match(message) for message in query.matches]
    return {"id": query.id, "artifact": documents.artifact_of(query), "matches": matches}


def _indexed(document: Any) -> dict[str, Any]:
    error = documents.error_of(document)
    return {"id": document.id} if error is None else {"id": document.id, "error": error}
