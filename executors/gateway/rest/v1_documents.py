"""Encode, index and search documents: /v1/encode, /v1/search, /v1/index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request, Response
from pydantic import Field

from finetuner.artifacts.registry import LIVE
from finetuner.contract import wire

from . import documents
from .answers import answer
from .document_forms import (
    ARTIFACT,
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
from .route import RoomsOf, router

MAX_QUERIES = 128
MAX_LIMIT, MAX_OFFSET = 1000, 100_000
MAX_IDS = 10_000
FILTER = (
    'Conditions over tags: `{"price": {"$lt": 50}}` with $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $and, '
    '$or, $not; or Qdrant\'s `{"must": [...]}`. null and `{}` let all pass.'
)
OFFSET = "Best ones that are passed over."
CONTENT = "Whether to return content; else id and tags alone."
THUMBNAILS = "Return images as JPEGs of at most 256 pixels a side."


class EncodeForm(Form):
    """Documents to encode."""

    documents: list[Document] = Field(..., min_items=1, max_items=MAX_DOCUMENTS, description="In the answer's order.")
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)


class EncodeAnswer(Answer):
    """Their vectors."""

    documents: list[Encoded]
    detail: str | None = Field(None, description="The first error, where every document has one.")


class SearchForm(Form):
    """Queries."""

    queries: list[Document] = Field(..., min_items=1, max_items=MAX_QUERIES, description="In the answer's order.")
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"What to search. {REFERENCE}")
    limit: int = Field(20, ge=1, le=MAX_LIMIT, description="Matches of a query.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description=OFFSET)
    filter: dict[str, Any] | None = Field(None, description=FILTER)
    score_threshold: float | None = Field(None, ge=-1, le=1, description="Lowest cosine similarity of a match.")
    exact: bool = Field(False, description="Compare with every vector, also where there is a graph.")
    return_content: bool = Field(True, description=CONTENT)
    thumbnails: bool = Field(False, description=THUMBNAILS)


class QueryAnswer(Answer):
    """What one query has found, or its error."""

    id: str = Field(..., description="Of the query.")
    artifact: str | None = Field(None, description=ARTIFACT)
    matches: list[Match] | None = Field(None, description="Best first.")
    error: DocumentError | None = Field(None, description="In place of the other two.")


class SearchAnswer(Answer):
    """What the queries have found."""

    queries: list[QueryAnswer]
    detail: str | None = Field(None, description="The first error, where every query has one.")


class IndexForm(Form):
    """Documents to index."""

    documents: list[Document] = Field(..., min_items=1, max_items=MAX_DOCUMENTS, description="In the answer's order.")
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"What encodes them. {REFERENCE}")


class Indexed(Answer):
    """A document that is indexed, or its error."""

    id: str = Field(..., description="Of the document.")
    error: DocumentError | None = Field(None, description="Why it is not.")


class IndexAnswer(Answer):
    """What became of them; what is indexed is on disk."""

    indexed: int = Field(..., description="How many documents are.")
    documents: list[Indexed]
    detail: str | None = Field(None, description="The first error, where every document has one.")


class Collection(Answer):
    """The vectors of one artifact."""

    artifact: str = Field(..., description="The artifact or backbone.")
    dim: int = Field(..., description="Numbers of a vector.")
    count: int = Field(..., description="Vectors.")
    indexed: int = Field(..., description="Vectors in the graph.")


class IndexStatus(Answer):
    """What the index holds."""

    documents: int = Field(..., description="How many.")
    bytes: int = Field(..., description="On the index's disk.")
    engine: str = Field(..., description="What searches.")
    collections: list[Collection]
    searched: str = Field(..., description="The artifact that 'live' searches, '' where nothing was indexed for it.")
    promoted: str = Field(..., description="The artifact that was promoted last, '' where none was.")
    building: str = Field(..., description="The artifact whose graph is being built, or ''.")
    problems: list[str] = Field(..., description="What the index does worse than it should, a sentence each.")
    reindex: dict[str, Any] | None = Field(None, description="How far the last re-index is.")


class DeleteForm(Form):
    """Documents to delete; at least one of the two."""

    ids: list[str] | None = Field(None, min_items=1, max_items=MAX_IDS, description="Ids; unknown ones do no harm.")
    filter: dict[str, Any] | None = Field(None, description=FILTER.replace("let all pass", "are no condition"))


class DeleteAnswer(Answer):
    """What was deleted."""

    deleted: int = Field(..., description="How many documents.")


class FilterForm(Form):
    """Which documents to return."""

    filter: dict[str, Any] | None = Field(None, description=FILTER)
    limit: int = Field(20, ge=1, le=MAX_LIMIT, description="Most documents.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description=OFFSET.replace("Best ones", "Documents"))
    artifact: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=f"Indexed with. {REFERENCE}")
    return_content: bool = Field(True, description=CONTENT)
    thumbnails: bool = Field(False, description=THUMBNAILS)


class FilterAnswer(Answer):
    """Documents that pass."""

    documents: list[Found]


routes = router("Documents", "/v1", documents=True)


@routes.post("/encode", summary="Documents to vectors", response_model=EncodeAnswer)
async def encode(form: EncodeForm, rooms: RoomsOf) -> Response:
    """Encode texts and images; documents of several parts are for index and search."""
    await rooms.require(wire.ENCODE)
    asked = await asyncio.to_thread(documents.to_messages, form.documents)
    answered = await rooms.post(wire.ENCODE, asked, artifact=form.artifact)
    documents.require_all(answered, asked)
    return await asyncio.to_thread(_listed, "documents", answered, documents.encoded)


@routes.post("/search", summary="Find the nearest documents", response_model=SearchAnswer)
async def search(form: SearchForm, rooms: RoomsOf) -> Response:
    """Find the indexed documents that are nearest to each query."""
    await rooms.require(wire.FILTER)  # which only an index binds: encoders alone bind /search as well
    asked = await asyncio.to_thread(documents.to_messages, form.queries, "queries")
    answered = await rooms.post(wire.SEARCH, asked, **_given(form, "queries"))
    documents.require_all(answered, asked)
    return await asyncio.to_thread(_listed, "queries", answered, _searched)


@routes.post("/index", summary="Make documents searchable", response_model=IndexAnswer)
async def index(form: IndexForm, rooms: RoomsOf, request: Request) -> Response:
    """Encode documents and store them; one of a known id is replaced."""
    await rooms.require(wire.FILTER)
    asked = await asyncio.to_thread(documents.to_messages, form.documents)
    if (entry := getattr(request.state, "entry", None)) is not None:
        entry.documents = len(asked)  # for the audit log
    answered = await rooms.post(wire.INDEX, asked, artifact=form.artifact)
    documents.require_all(answered, asked)
    stored = sum(documents.error_of(message) is None for message in answered)
    return await asyncio.to_thread(_listed, "documents", answered, _indexed, indexed=stored)


@routes.get("/index", summary="What the index holds", response_model=IndexStatus)
async def index_status(rooms: RoomsOf) -> Response:
    """Return the index's collections, what `live` searches, and how far a re-index is."""
    await rooms.require(wire.STATUS)
    return answer(await rooms.call(wire.STATUS))


@routes.post("/index/delete", summary="Delete documents", response_model=DeleteAnswer)
async def delete(form: DeleteForm, rooms: RoomsOf) -> Response:
    """Delete documents by id or filter, with their vectors of every artifact."""
    await rooms.require(wire.DELETE)
    return answer(await rooms.call(wire.DELETE, **_given(form)))


@routes.post("/index/filter", summary="List documents", response_model=FilterAnswer)
async def filter_index(form: FilterForm, rooms: RoomsOf) -> Response:
    """Return indexed documents that pass a filter, in an order that stays the same."""
    await rooms.require(wire.FILTER)
    answered = documents.or_raise(await rooms.post(wire.FILTER, **_given(form)))
    return await asyncio.to_thread(lambda: answer({"documents": [documents.found(message) for message in answered]}))


def _given(form: Form, *without: str) -> dict[str, Any]:
    """Return the parameters of a request, without those that are null."""
    return form.dict(exclude=set(without), exclude_none=True)


def _listed(name: str, messages: Sequence[Any], described: Callable[[Any], dict[str, Any]], **more: Any) -> Response:
    """Return what became of each document; where all have failed, with the status of their errors."""
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
