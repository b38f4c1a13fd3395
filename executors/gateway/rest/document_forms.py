"""Documents in the bodies and answers of /v1."""

from __future__ import annotations

from typing import Any

from pydantic import Field, root_validator

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, EXAMPLE_TAG, SEARCH_TAG, TOWER_TAG

from .form import Answer, Form

MAX_DOCUMENTS = 1024
MAX_CHUNKS = 16
MAX_ID = 512
MAX_WEIGHT = 1e6
MAX_REFERENCE = 256
CONTENTS = ("text", "blob", "uri")
RESERVED = (ARTIFACT_TAG, ERROR_TAG, EXAMPLE_TAG, SEARCH_TAG, TOWER_TAG)

REFERENCE = "An artifact id (24 hex characters), an alias such as 'live', or a backbone."
DIMENSIONS = (
    "Size of the embeddings: the model's own, which is the default, or one of its run's `matryoshka_dims`. A short one "
    "is the first numbers of the whole one, normalised again."
)
ARTIFACT = "The artifact or backbone that made the embedding."


class Part(Form):
    """One part of a document with several parts, such as an image or its caption."""

    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image file in base64.")
    uri: str | None = Field(None, description="URI of an image: a public http(s) URL, or a data: URI.")
    weight: float | None = Field(
        None,
        ge=-MAX_WEIGHT,
        le=MAX_WEIGHT,
        description="Weight of the part, 1 by default. A negative weight moves a query away from the part.",
    )

    @root_validator(skip_on_failure=True)
    def _one_content(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        _require_one(values, CONTENTS)
        return values


class Document(Form):
    """A text, an image, or several parts that share one embedding."""

    id: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_ID,
        description="Random by default. A document replaces an older one with the same id.",
    )
    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image file in base64.")
    uri: str | None = Field(None, description="URI of an image: a public http(s) URL, or a data: URI.")
    chunks: list[Part] | None = Field(
        None,
        min_items=1,
        max_items=MAX_CHUNKS,
        description="Instead of content: parts that share one embedding.",
    )
    tags: dict[str, Any] = Field({}, description="Values for filters: strings, finite numbers, booleans.")

    @root_validator(skip_on_failure=True)
    def _one_content(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        _require_one(values, (*CONTENTS, "chunks"))
        for name in RESERVED:
            if name in values["tags"]:
                raise ValueError(f"must not have the tag {name!r}, which only the Flow writes. Leave it out")
        return values


def _require_one(values: dict[str, Any], names: tuple[str, ...]) -> None:
    """Raise ValueError unless exactly one of the names has a value."""
    given = [name for name in names if values.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f"must have one of {', '.join(names)}, and has {' and '.join(given) or 'none'}. Set one")


class Example(Form):
    """A document to look like or unlike: an indexed one, a text or an image."""

    id: str | None = Field(None, min_length=1, max_length=MAX_ID, description="Id of an indexed document.")
    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image file in base64.")
    uri: str | None = Field(None, description="URI of an image: a public http(s) URL, or a data: URI.")

    @root_validator(skip_on_failure=True)
    def _one(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805  # a class method to pydantic
        _require_one(values, ("id", *CONTENTS))
        return values


class DocumentError(Answer):
    """The error of one document. The other documents are answered."""

    type: str = Field(..., description="Class of the exception, see finetuner.exceptions.")
    message: str = Field(..., description="One line: the expected value, the given one, and the next step.")
    status: int = Field(..., description="HTTP status of such an error, such as 422.")


class Encoded(Answer):
    """A document's embedding, or its error."""

    id: str = Field(..., description="Id of the document.")
    artifact: str | None = Field(None, description=ARTIFACT)
    embedding: list[float] | None = Field(None, description="`dim` numbers, L2-normalised.")
    error: DocumentError | None = Field(None, description="Instead of the other two.")


class FoundPart(Answer):
    """One part of a document with several parts."""

    text: str | None = Field(None, description="A text.")
    blob: str | None = Field(None, description="An image file in base64.")
    uri: str | None = Field(None, description="URI of an image.")
    mime_type: str | None = Field(None, description="Media type of the blob, if known.")
    modality: str | None = Field(None, description="'text' or 'image', for pairs.")
    weight: float | None = Field(None, description="Weight of the part.")


class Found(FoundPart):
    """A stored document. An image stored as an array has a blob only with `thumbnails`."""

    id: str = Field(..., description="Id of the document.")
    tags: dict[str, Any] = Field(..., description="Tags of the document; numbers are floats.")
    chunks: list[FoundPart] | None = Field(None, description="Its parts.")


class Match(Found):
    """A document found by a query."""

    score: float = Field(..., description="Cosine similarity, in [-1, 1].")
    probability: float | None = Field(
        None, description="Probability that it is relevant, by the calibration of the artifact, if it has one."
    )
    scores: dict[str, float] | None = Field(
        None, description="`hidden` duplicates, and with `explain` rank and score of each part of `hybrid`."
    )


class Failed(Answer):
    """The answer if every document of a request has failed. Its status is the highest of their statuses."""

    detail: str = Field(..., description="The first document's error.")
