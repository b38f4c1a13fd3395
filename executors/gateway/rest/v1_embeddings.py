"""/v1/embeddings in the form of OpenAI's API, for texts and also images."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import Response
from pydantic import Field, StrictStr, validator

from finetuner.artifacts.registry import LIVE
from finetuner.contract import wire
from finetuner.exceptions import FinetunerServerError, by_name

from . import documents
from .answers import answer
from .document_forms import MAX_REFERENCE, REFERENCE, Document
from .form import Answer, Form
from .route import RoomsOf, router

MAX_INPUTS = 2048
ADDRESSES = ("http://", "https://", "data:")


class Image(Form):
    """An image."""

    image: str = Field(..., description="An image file in base64, a public http(s) URL, or a data: URI.")


Item = StrictStr | Image


class EmbeddingsForm(Form):
    """Texts and images to encode."""

    input: Item | list[Item] = Field(
        ..., description=f"A text, an image, or a list of 1 to {MAX_INPUTS} of them; not token ids."
    )
    model: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="'float': numbers; 'base64': little-endian float32 in base64."
    )

    @validator("input", pre=True)
    def _texts_and_images(cls, value: Any) -> Any:  # noqa: N805  # a class method to pydantic
        items = value if isinstance(value, list) else [value]
        if not 1 <= len(items) <= MAX_INPUTS:
            raise ValueError(f"must be 1 to {MAX_INPUTS} texts and images. Got {len(items)}")
        for item in items:
            if not isinstance(item, str) and not (isinstance(item, dict) and set(item) == {"image"}):
                raise ValueError('must be a text, {"image": base64 or address}, or a list of these; not token ids')
        return value


class Embedding(Answer):
    """One embedding."""

    object: Literal["embedding"]
    index: int = Field(..., description="Index of the input, from 0.")
    embedding: list[float] | str = Field(..., description="L2-normalised, in the form of `encoding_format`.")


class Usage(Answer):
    """Token counts, always 0: tokens are not counted here."""

    prompt_tokens: int = Field(..., description="Always 0.")
    total_tokens: int = Field(..., description="Always 0.")


class EmbeddingList(Answer):
    """The embeddings, in the order of the input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(..., description="The artifact or backbone that made the embeddings.")
    usage: Usage


routes = router("Embeddings", "/v1", documents=True)


@routes.post("/embeddings", summary="Texts and images to vectors, in OpenAI's form", response_model=EmbeddingList)
async def embeddings(form: EmbeddingsForm, rooms: RoomsOf) -> Response:
    """Encode texts and images; one that cannot be encoded fails the request, whose `detail` says which."""
    await rooms.require(wire.ENCODE)
    items = form.input if isinstance(form.input, list) else [form.input]
    asked = await asyncio.to_thread(documents.to_messages, [_document(item) for item in items], "input")
    answered = await rooms.post(wire.ENCODE, asked, artifact=form.model)
    documents.require_all(answered, asked)
    return await asyncio.to_thread(_listed, answered, form.encoding_format)


def _document(item: str | Image) -> Document:
    if isinstance(item, str):
        return Document.parse_obj({"text": item})
    return Document.parse_obj({"uri" if item.image.startswith(ADDRESSES) else "blob": item.image})


def _listed(messages: Sequence[Any], encoding: str) -> Response:
    for number, message in enumerate(messages):
        if (error := documents.error_of(message)) is not None:
            raise by_name(error["type"])(f"input[{number}]: {error['message']}")
    made_by = {documents.artifact_of(message) for message in messages}
    if len(made_by) > 1:
        raise FinetunerServerError("Another model was promoted during the request", "send it again", 503)
    vectors = [documents.vector_of(message) for message in messages]
    data = [
        {"object": "embedding", "index": number, "embedding": _written(vector, encoding)}
        for number, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return answer({"object": "list", "data": data, "model": made_by.pop(), "usage": usage})


def _written(vector: Any, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
