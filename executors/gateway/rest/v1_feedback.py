"""Routes of marks: /v1/feedback."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import Field, root_validator

from finetuner.contract import wire
from finetuner.contract.marks import (
    FIELDS,
    MAX_ID,
    MAX_MARKS,
    MAX_OFFSET,
    MAX_PAGE,
    MAX_REFERENCE,
    MAX_SHOWN,
)

from . import documents
from .answers import answer
from .document_forms import Document, DocumentError
from .form import Answer, Form
from .route import RoomsOf, router

MAX_IDS = 10_000
MAX_NUMBER = 2**53
MARK_ID = "Id of the mark. A mark that is sent twice under one id is stored once."


class MarkForm(Form):
    """The answer to one query, and what somebody chose or refused of it. It names at least one of both."""

    id: str | None = Field(None, min_length=1, max_length=MAX_ID, description=f"{MARK_ID} Random by default.")
    text: str | None = Field(None, description="The query, a text.")
    blob: str | None = Field(None, description="Or the query's image file, in base64.")
    shown: list[str] = Field(
        ..., min_items=1, max_items=MAX_SHOWN, description="Ids of the documents that were shown, best first."
    )
    chosen: list[str] = Field([], max_items=MAX_SHOWN, description="Those that fit the query.")
    refused: list[str] = Field([], max_items=MAX_SHOWN, description="Those that do not.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Number of better matches that were not shown.")
    artifact: str = Field("", max_length=MAX_REFERENCE, description="Artifact that ranked the documents, if known.")

    @root_validator(skip_on_failure=True)
    def _one_query(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        if (values.get("text") is None) == (values.get("blob") is None):
            raise ValueError("must have one of text, blob. Set one")
        return values


class FeedbackForm(Form):
    """Marks."""

    marks: list[MarkForm] = Field(..., min_items=1, max_items=MAX_MARKS, description="The answer has the same order.")


class Stored(Answer):
    """A stored mark, or its error."""

    id: str = Field(..., description="Id of the mark.")
    error: DocumentError | None = Field(None, description="Error of a mark that is not stored.")


class FeedbackAnswer(Answer):
    """The result for each mark. Stored marks are on disk."""

    stored: int = Field(..., description="Number of stored marks.")
    marks: list[Stored]


class MarksForm(Form):
    """The marks to list."""

    since: float | None = Field(None, ge=0, le=2.0**40, description="Seconds since the epoch; marks from then on.")
    user: str | None = Field(None, max_length=MAX_PAGE, description="Name of a token; '' for marks without one.")
    document: str | None = Field(None, min_length=1, max_length=MAX_ID, description="Id of a document that was shown.")
    after: int = Field(0, ge=0, le=MAX_NUMBER, description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="Maximum number of marks; a large page ends earlier.")
    images: bool = Field(False, description="Whether to return the images of queries.")


class StoredMark(Answer):
    """A mark."""

    id: str = Field(..., description="Id of the mark.")
    at: float = Field(..., description="Seconds since the epoch.")
    user: str = Field(..., description="Name of the token that marked, '' for none.")
    artifact: str = Field(..., description="Artifact that ranked the documents, '' if not known.")
    text: str = Field(..., description="The query, '' for an image.")
    image: str | None = Field(..., description="The query's image in base64, '' for a text, null without `images`.")
    shown: list[str] = Field(..., description="Ids of the documents that were shown, best first.")
    chosen: list[str] = Field(..., description="Those that fit the query.")
    refused: list[str] = Field(..., description="Those that do not.")
    offset: int = Field(..., description="Number of better matches that were not shown.")


class MarksAnswer(Answer):
    """A page of marks, oldest first."""

    marks: list[StoredMark]
    next: int | None = Field(..., description="`after` of the next page, null at the end.")


class DeleteMarksForm(Form):
    """Marks to delete: those of which each given condition holds. At least one must be given."""

    user: str | None = Field(None, max_length=MAX_PAGE, description="Name of a token; '' for marks without one.")
    document: str | None = Field(None, min_length=1, max_length=MAX_ID, description="Id of a document that was shown.")
    ids: list[str] | None = Field(None, min_items=1, max_items=MAX_IDS, description="Ids of marks.")


class DeleteMarksAnswer(Answer):
    """The result of a deletion."""

    deleted: int = Field(..., description="Number of deleted marks.")


routes, without_documents = router("Feedback", "/v1", documents=True), router("Feedback", "/v1")


@routes.post("/feedback", summary="Mark search results", response_model=FeedbackAnswer)
async def mark(form: FeedbackForm, rooms: RoomsOf) -> Response:
    """Store what people chose or refused among the results of searches. Stored marks are on disk."""
    await rooms.require(wire.FEEDBACK)
    asked = await documents.to_messages([*map(_document, form.marks)], "marks")
    answered = await rooms.post(wire.FEEDBACK, asked)
    if len(answered) != len(asked) or answered[0].id != asked[0].id:
        documents.or_raise(answered)  # the error of the whole request
    documents.require_all(answered, asked)
    status, failure = documents.failed_all(answered)
    stored = sum(documents.error_of(message) is None for message in answered)
    return answer({"stored": stored, "marks": [*map(_stored, answered)], **failure}, status)


@without_documents.post("/feedback/list", summary="List marks", response_model=MarksAnswer)
async def list_marks(form: MarksForm, rooms: RoomsOf) -> Response:
    """Return a page of marks, oldest first."""
    await rooms.require(wire.FEEDBACK_LIST)
    return answer(await rooms.call(wire.FEEDBACK_LIST, **form.dict(exclude_none=True)))


@without_documents.post("/feedback/delete", summary="Delete marks", response_model=DeleteMarksAnswer)
async def delete_marks(form: DeleteMarksForm, rooms: RoomsOf) -> Response:
    """Delete marks of a user, marks that show a document, or marks by id, for good."""
    await rooms.require(wire.FEEDBACK_DELETE)
    return answer(await rooms.call(wire.FEEDBACK_DELETE, **form.dict(exclude_none=True)))


def _document(mark: MarkForm) -> Document:
    tags = {name: getattr(mark, name) for name in FIELDS}
    return Document(id=mark.id, text=mark.text, blob=mark.blob, uri=None, chunks=None, tags=tags)


def _stored(message: Any) -> dict[str, Any]:
    error = documents.error_of(message)
    return {"id": message.id} if error is None else {"id": message.id, "error": error}
