"""Documents in bodies and answers of /v1."""

from __future__ import annotations

from typing import Any

from pydantic import Field, root_validator

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG

from .form import Answer, Form

MAX_DOCUMENTS = 1024
MAX_CHUNKS = 16
MAX_ID = 512
MAX_WEIGHT = 1e6
MAX_REFERENCE = 256
CONTENTS = ("text", "blob", "uri")
RESERVED = (ARTIFACT_TAG, ERROR_TAG)

REFERENCE = "An artifact id (24 hex characters), an alias such as 'live', or a backbone."
ARTIFACT = "The artifact or backbone that made the vector."


class Part(Form):
    """One part of a document of several, such as an image or its caption."""

    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image's file, base64.")
    uri: str | None = Field(None, description="Where an image is: a public http(s) address, or a data: URI.")
    weight: float | None = Field(
        None,
        ge=-MAX_WEIGHT,
        le=MAX_WEIGHT,
        description="How much the part counts, 1 if left out; a negative one turns a query away from it.",
    )

    @root_validator(skip_on_failure=True)
    def _one_content(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        _require_one(values, CONTENTS)
        return values


class Document(Form):
    """A text, an image, or several parts that share one vector."""

    id: str | None = Field(
        None, min_length=1, max_length=MAX_ID, description="Chosen if left out; documents of one id replace each other."
    )
    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image's file, base64.")
    uri: str | None = Field(None, description="Where an image is: a public http(s) address, or a data: URI.")
    chunks: list[Part] | None = Field(
        None,
        min_items=1,
        max_items=MAX_CHUNKS,
        description="In place of content: parts that share one vector.",
    )
    tags: dict[str, Any] = Field({}, description="What filters look at: strings, finite numbers, booleans.")

    @root_validator(skip_on_failure=True)
    def _one_content(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        _require_one(values, (*CONTENTS, "chunks"))
        for name in RESERVED:
            if name in values["tags"]:
                raise ValueError(f"must not have the tag {name!r}, which the Flow writes itself. Leave it out")
        return values


def _require_one(values: dict[str, Any], names: tuple[str, ...]) -> None:
    given = [name for name in names if values.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"must have one of {', '.join(names)}, and has {' and '.join(given) or 'none'}. Set one")


class DocumentError(Answer):
    """Why one document could not be done; its neighbours are answered."""

    type: str = Field(..., description="The exception's class, see finetuner.exceptions.")
    message: str = Field(..., description="One sentence: what was expected, what came, what to do.")
    status: int = Field(..., description="What HTTP calls such an error, 422 for example.")


class Encoded(Answer):
    """A document's vector, or its error."""

    id: str = Field(..., description="Of the document.")
    artifact: str | None = Field(None, description=ARTIFACT)
    embedding: list[float] | None = Field(None, description="`dim` numbers, L2-normalised.")
    error: DocumentError | None = Field(None, description="In place of the other two.")


class FoundPart(Answer):
    """One part of a document of several."""

    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image's file, base64.")
    uri: str | None = Field(None, description="Where an image is.")
    mime_type: str | None = Field(None, description="Of the blob, as far as it is known.")
    modality: str | None = Field(None, description="'text' or 'image', of pairs.")
    weight: float | None = Field(None, description="How much the part counts.")


class Found(FoundPart):
    """A stored document. An image that was stored as an array has a blob with `thumbnails` only."""

    id: str = Field(..., description="Of the document.")
    tags: dict[str, Any] = Field(..., description="Of the document; numbers are floats.")
    chunks: list[FoundPart] | None = Field(None, description="Its parts.")


class Match(Found):
    """A document that a query has found."""

    score: float = Field(..., description="Cosine similarity, in [-1, 1].")


class Failed(Answer):
    """All documents of a request have failed: the highest of their statuses, and the error of each."""

    detail: str = Field(..., description="The first document's error.")
