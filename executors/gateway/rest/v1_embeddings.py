"""/v1/embeddings and /v1/models in the form of OpenAI's API, for texts and also images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Path, Request, Response
from pydantic import BaseModel, Field, StrictStr, validator

from finetuner.artifacts.registry import LIVE
from finetuner.contract import wire
from finetuner.contract.dimensions import MAX_DIMENSIONS
from finetuner.exceptions import InvalidInput, NoSuchModel, NotFound
from finetuner.models.backbones import list_models as backbones

from ..flow.rooms import Rooms
from . import documents
from .answers import answer
from .document_forms import DIMENSIONS, MAX_REFERENCE, REFERENCE, Document
from .form import Answer, Form
from .npy import DESCRIBED, NPY, as_npy, model_of, require_embeddings, wants_npy
from .route import RoomsOf, router
from .token_ids import text_of

MAX_INPUTS = 2048
PACKAGED = "clip-mini"  # the backbone that needs no download
ADDRESSES = ("http://", "https://", "data:")


class Image(Form):
    """An image."""

    image: str = Field(..., description="An image file in base64, a public http(s) URL, or a data: URI.")


Item = StrictStr | Image
TOKEN_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}


def _allow_token_ids(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Add token ids to the schema of `input`. `EmbeddingsForm` turns them into texts before pydantic sees them."""
    Form.Config.schema_extra(schema, model)
    described = schema["properties"]["input"]
    one, several = described["anyOf"][:-1], described["anyOf"][-1]
    several["items"]["anyOf"].append(TOKEN_IDS)
    described["anyOf"] = [*one, TOKEN_IDS, several]


class EmbeddingsForm(Form):
    """Texts and images to encode."""

    input: Item | list[Item] = Field(
        ...,
        description=f"A text, an image, or a list of 1 to {MAX_INPUTS} of them. A text may come as its token ids in "
        "OpenAI's cl100k_base.",
    )
    model: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="'float': numbers; 'base64': little-endian float32 in base64."
    )
    dimensions: int | None = Field(None, ge=1, le=MAX_DIMENSIONS, description=DIMENSIONS)
    user: str | None = Field(None, description="Id of an end user, which OpenAI's clients may send. It is not stored.")

    class Config:
        """Pydantic's settings."""

        schema_extra = staticmethod(_allow_token_ids)

    @validator("input", pre=True)
    def _texts_and_images(cls, value: Any) -> Any:  # noqa: N805  # a class method to pydantic
        items = value if isinstance(value, list) and not _is_ids(value) else [value]
        if not 1 <= len(items) <= MAX_INPUTS:
            raise ValueError(f"must be 1 to {MAX_INPUTS} texts and images. Got {len(items)}")
        for item in items:
            if not (isinstance(item, str) or _is_ids(item) or (isinstance(item, dict) and set(item) == {"image"})):
                raise ValueError('must be a text, its token ids, {"image": base64 or address}, or a list of these')
        return [text_of(item) if _is_ids(item) else item for item in items]


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


class Embedding(Answer):
    """One embedding."""

    object: Literal["embedding"]
    index: int = Field(..., description="Index of the input, from 0.")
    embedding: list[float] | str = Field(..., description="L2-normalised, in the form of `encoding_format`.")


class Usage(Answer):
    """Token counts: what the model reads of the texts, with the tokens at start and end. Images have none."""

    prompt_tokens: int = Field(..., description="Tokens of all texts.")
    total_tokens: int = Field(..., description="The same: embeddings have no further tokens.")


class EmbeddingList(Answer):
    """The embeddings, in the order of the input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(..., description="The artifact or backbone that made the embeddings.")
    usage: Usage


class ServedModel(Answer):
    """A model that `model` may name."""

    id: str = Field(..., description=REFERENCE)
    object: Literal["model"]
    created: int = Field(..., description="Seconds since the epoch; 0 for a backbone.")
    owned_by: str = Field(..., description="The run that made it; 'finetuner' for a backbone.")


class ServedModels(Answer):
    """The models that `model` may name, beside further backbones."""

    object: Literal["list"]
    data: list[ServedModel]


ModelName = Annotated[str, Path(min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)]

routes = router("Embeddings", "/v1", documents=True)


@routes.post(
    "/embeddings",
    summary="Texts and images to vectors, in OpenAI's form",
    response_model=EmbeddingList,
    responses=DESCRIBED,
)
async def embeddings(form: EmbeddingsForm, rooms: RoomsOf, request: Request) -> Response:
    """Encode texts and images; one that cannot be encoded fails the request, whose `detail` says which."""
    if (npy := wants_npy(request)) and form.encoding_format != "float":
        raise InvalidInput(
            f"encoding_format must be 'float' with Accept: {NPY}. Got {form.encoding_format!r}. Drop one of them."
        )
    await rooms.require(wire.ENCODE)
    asked = await _messages(form)
    size = {} if form.dimensions is None else {"dimensions": form.dimensions}
    answered = await rooms.post(wire.ENCODE, asked, artifact=form.model, count_tokens=True, **size)
    documents.require_all(answered, asked)
    return await documents.described(answered, partial(_listed, answered, form, npy=npy))


@routes.get("/models", summary="List models, in OpenAI's form", response_model=ServedModels)
async def list_models(rooms: RoomsOf) -> Response:
    """Return 'live', the packaged backbone, every published artifact, and its aliases."""
    return answer({"object": "list", "data": list((await _models(rooms)).values())})


@routes.get("/models/{model:path}", summary="Get a model, in OpenAI's form", response_model=ServedModel)
async def get_model(model: ModelName, rooms: RoomsOf) -> Response:
    """Return one model: one that is listed, or another backbone of `finetuner.list_models()`."""
    known = await _models(rooms)
    if model not in known and model not in backbones():
        raise NoSuchModel(
            f"model must be one of {', '.join(dict.fromkeys([*known, *backbones()])):.500}. Got {model!r}. Choose one."
        )
    return answer(known.get(model) or _model(model))


async def _models(rooms: Rooms) -> dict[str, dict[str, Any]]:
    """Return the models by name. A Flow without a trainer has no artifacts."""
    found = {name: _model(name) for name in (LIVE, PACKAGED)}
    try:
        artifacts = await rooms.call(wire.ARTIFACTS_LIST)
    except NotFound:
        artifacts = []
    for artifact in artifacts:
        for name in (artifact["artifact_id"], *artifact["aliases"]):
            made = int(datetime.fromisoformat(artifact["created_at"]).timestamp())
            found[name] = _model(name, made, artifact["run_name"])
    return found


def _model(name: str, created: int = 0, owner: str = "finetuner") -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


async def _messages(form: EmbeddingsForm) -> list[Any]:
    items = form.input if isinstance(form.input, list) else [form.input]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) == len(items):
        return [documents.of_text(text) for text in texts]
    return await documents.to_messages([_document(item) for item in items], "input")


def _document(item: str | Image) -> Document:
    if isinstance(item, str):
        return Document.parse_obj({"text": item})
    return Document.parse_obj({"uri" if item.image.startswith(ADDRESSES) else "blob": item.image})


def _listed(messages: Sequence[Any], form: EmbeddingsForm, *, npy: bool) -> Response:
    require_embeddings(messages, "input")
    model, vectors = model_of(messages), [documents.vector_of(message) for message in messages]
    if form.dimensions not in (None, len(vectors[0])):  # of a room that does not read them
        raise InvalidInput(
            f"dimensions must be {len(vectors[0])}, the size of the embeddings of {model}. Got {form.dimensions}. "
            "Leave it out."
        )
    if npy:
        return as_npy(messages, "input")
    data = [
        {"object": "embedding", "index": number, "embedding": _written(vector, form.encoding_format)}
        for number, vector in enumerate(vectors)
    ]
    tokens = sum(int(message.tags.fields[wire.TOKENS_TAG].number_value) for message in messages)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer({"object": "list", "data": data, "model": model, "usage": usage})


def _written(vector: Any, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector.tolist()
    return numbers
