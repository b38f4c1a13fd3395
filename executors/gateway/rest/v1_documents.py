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
from finetuner.contract.search_parameters import (
    MAX_CANDIDATES,
    MAX_CURSOR,
    MAX_EXAMPLES,
    MAX_GROUP,
    MAX_NAME,
    SearchParameters,
    asks_more,
)  # fmt: skip
from finetuner.exceptions import InvalidInput

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
    Example,
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


class SearchForm(Form):
    """Queries."""

    queries: list[Document] | None = Field(
        None,
        min_items=1,
        max_items=MAX_QUERIES,
        description="The answer has the same order. Required without positives.",
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
    positives: list[Example] | None = Field(
        None, min_items=1, max_items=MAX_EXAMPLES, description="Documents that matches look like."
    )
    negatives: list[Example] | None = Field(
        None, min_items=1, max_items=MAX_EXAMPLES, description="Documents that matches look unlike."
    )
    diversity: float | None = Field(
        None, ge=0, le=1, description="Share of variety against similarity (maximal marginal relevance)."
    )
    hide_duplicates: float | None = Field(
        None, ge=0, le=1, description="Hide a match whose similarity with a better match is at least this."
    )
    group_by: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="Tag whose values `limit` counts."
    )
    group_size: int | None = Field(None, ge=1, le=MAX_GROUP, description="Matches for each value of `group_by`.")
    facets: dict[str, Any] | None = Field(
        None,
        description='Counts of the documents that pass the filter: `{"colour": 10}` for the ten most frequent values, '
        '`{"price": [10, 50]}` for ranges with these borders.',
    )
    order_by: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="Tag that sorts the best matches; `-price` downwards."
    )
    cursor: str | None = Field(
        None, min_length=1, max_length=MAX_CURSOR, description="`*` for the first page, then that of the last answer."
    )
    hybrid: dict[str, Any] | None = Field(
        None,
        description='BM25 beside the embeddings: `{"fields": ["text", "sku"], "weight": 0.3}`. Without a weight, '
        "it is 0.7 for a query with a code that a document has, else 0.1.",
    )
    explain: bool | None = Field(None, description="Whether matches have the ranks and scores of `hybrid`'s parts.")
    candidates: int | None = Field(
        None, ge=1, le=MAX_CANDIDATES, description="Number of best matches from which the other options choose."
    )


class QueryAnswer(Answer):
    """The matches of one query, or its error."""

    id: str = Field(..., description="Id of the query.")
    artifact: str | None = Field(None, description=ARTIFACT)
    matches: list[Match] | None = Field(None, description="Best first.")
    cursor: str | None = Field(None, description="Cursor of the next page; missing on the last one.")
    hidden: int | None = Field(None, description="Number of near-duplicates that the matches hide.")
    complete: bool | None = Field(None, description="False if more matches may be beyond the candidates.")
    weight: float | None = Field(None, description="Weight of the words of `hybrid`.")
    facets: dict[str, Any] | None = Field(None, description="By tag: `values`, or `ranges`, each with its `count`.")
    error: DocumentError | None = Field(None, description="Instead of all others.")


class SearchAnswer(Answer):
    """The matches of all queries."""

    queries: list[QueryAnswer]


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
    given = _given(form, "queries", "positives", "negatives")
    if form.queries is None and not form.positives:
        raise InvalidInput("queries is required. Got none. Add it, or positives.")
    for side, side_examples in (("positives", form.positives), ("negatives", form.negatives)):
        if ids := [example.id for example in side_examples or () if example.id is not None]:
            given[side] = ids
    if asks_more(given):
        SearchParameters.read(given, form.limit, form.offset)
    await rooms.require(wire.FILTER)  # only an index binds it; encoders bind /search too
    asked = await documents.to_messages(form.queries or (), "queries")
    if form.positives or form.negatives:
        asked = await documents.with_examples(asked, form.positives or (), form.negatives or ())
    answered = await rooms.post(wire.SEARCH, asked, **given)
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
    """Return the result of each document. If all have failed, the answer is that of an error as well."""
    status, failure = documents.failed_all(messages)
    return answer({**more, name: [described(message) for message in messages], **failure}, status)


def _searched(query: Any) -> dict[str, Any]:
    if (error := documents.error_of(query)) is not None:
        return {"id": query.id, "error": error}
    matches = [documents.match(message) for message in query.matches]
    found = {"id": query.id, "artifact": documents.artifact_of(query), "matches": matches}
    return found | documents.report_of(query) if wire.SEARCH_TAG in query.tags.fields else found


def _indexed(document: Any) -> dict[str, Any]:
    error = documents.error_of(document)
    return {"id": document.id} if error is None else {"id": document.id, "error": error}
