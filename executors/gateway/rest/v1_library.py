"""What a Flow keeps: datasets, artifacts, and what an artifact scores; /v1/datasets, /v1/artifacts, /v1/evaluate."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from executors.gateway.flow.rooms import Rooms
from finetuner.artifacts.registry import LIVE, SEARCHED
from finetuner.contract import wire
from finetuner.exceptions import ArtifactNotFound, NotFound

from . import documents
from .answers import answer
from .document_forms import MAX_REFERENCE, REFERENCE, Found
from .form import Answer, Form
from .route import RoomsOf, router
from .run_forms import MAX_OFFSET, NAME, NAME_TEXT

MAX_SHOWN = 100


class Dataset(Answer):
    """A dataset."""

    name: str = Field(..., description=f"{NAME_TEXT}.")
    version: str = Field(..., description="SHA-256 of its documents in their order, but not of their ids, hex.")
    documents: int = Field(..., description="How many.")
    size: int = Field(..., description="Bytes of its documents.")
    created_at: float = Field(..., description="Seconds since the epoch.")
    stream_size: int = Field(..., description="Bytes of a download; 0 where it was never measured.")
    kind: str = Field(..., description="'pairs', 'scored pairs', 'labelled', 'documents', or '' for not known.")


class DatasetList(Answer):
    """All datasets, by name."""

    items: list[Dataset]


class Shown(Answer):
    """A page of a dataset's documents, images as JPEGs of at most 256 pixels a side."""

    documents: list[Found]
    total: int = Field(..., description="How many the dataset has.")


class Manifest(Answer):
    """A published model."""

    artifact_id: str = Field(..., description="24 hex characters.")
    run_name: str = Field(..., description="The run that made it.")
    backbone: str = Field(..., description="What it was tuned from.")
    output_dim: int = Field(..., description="Numbers of a vector.")
    towers: list[str] = Field(..., description="Its models.")
    metrics: dict[str, dict[str, float | None]] = Field(..., description="{'before': {name: value}, 'after': {...}}.")
    data: dict[str, str] = Field(..., description="Content hashes of training and evaluation data.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    code_version: str = Field(..., description="Of open-finetuner.")
    parent: str = Field(..., description="The artifact or backbone whose weights it started from.")
    format: int = Field(..., description="Of the manifest.")
    files: dict[str, dict[str, Any]] = Field(..., description="Path -> size in bytes and SHA-256.")
    sha256: str = Field(..., description="Of the manifest, hex.")
    aliases: list[str] = Field(..., description="Names that point to it, such as 'live'.")


class ArtifactList(Answer):
    """All published models, oldest first."""

    items: list[Manifest]
    live: str = Field(..., description="What was promoted last, '' where nothing was: the encoders' backbone then.")
    searched: str = Field(..., description="What searches of 'live' use until everything is encoded again, or ''.")


class PromoteForm(Form):
    """The alias, and the rule for an artifact that became worse by tuning."""

    alias: str = Field(LIVE, regex=NAME, description="Name that shall point to the artifact.")
    force: bool = Field(False, description="Promote the artifact even if it became worse by tuning.")
    tolerance: float = Field(
        wire.PROMOTE_TOLERANCE,
        ge=0,
        le=1,
        description="By which the mean of R@5 in both directions may be lower than before tuning.",
    )


class Promoted(Answer):
    """An alias and what it points to now."""

    alias: str = Field(..., description="The name.")
    artifact: str = Field(..., description="The artifact or backbone.")


class EvaluateForm(Form):
    """What to score."""

    model: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    data: str = Field(..., regex=NAME, description="Name of a dataset of pairs.")
    limit: int = Field(20, ge=1, le=1000, description="k of the nine metrics.")


class Evaluated(Answer):
    """What it scores."""

    model: str = Field(..., description="The artifact or backbone.")
    data: str = Field(..., description="The dataset.")
    documents: int = Field(..., description="How many it has.")
    metrics: dict[str, float] = Field(..., description="Name -> value, see finetuner.metrics.")


DatasetName = Annotated[str, Path(pattern=NAME, description=f"The dataset: {NAME_TEXT}.")]
Reference = Annotated[str, Path(min_length=1, max_length=MAX_REFERENCE, description="Artifact id or alias.")]

routes = router("Library", "/v1")


@routes.get("/datasets", summary="List datasets", response_model=DatasetList)
async def list_datasets(rooms: RoomsOf) -> Response:
    """Return every dataset, sorted by name."""
    return answer({"items": await rooms.call(wire.DATASETS_LIST)})


@routes.get("/datasets/{name}", summary="Get a dataset", response_model=Dataset)
async def get_dataset(name: DatasetName, rooms: RoomsOf) -> Response:
    """Return one dataset."""
    return answer((await rooms.call(wire.DATASETS_LIST, name=name))[0])


@routes.get("/datasets/{name}/documents", summary="Show documents of a dataset", response_model=Shown)
async def show_dataset(
    name: DatasetName,
    rooms: RoomsOf,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Documents that are passed over.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_SHOWN, description="Most documents.")] = 20,
) -> Response:
    """Return a page of a dataset's documents, in their order; a pair is a document with two chunks."""
    (dataset,) = await rooms.call(wire.DATASETS_LIST, name=name)
    asked = {"version": dataset["version"], "offset": offset, "limit": limit}
    shown = documents.or_raise(await rooms.post(wire.DATASETS_SHOW, **asked))
    total = dataset["documents"]
    return await asyncio.to_thread(lambda: answer({"documents": [*map(documents.found, shown)], "total": total}))


@routes.delete("/datasets/{name}", summary="Delete a dataset", response_model=Dataset)
async def delete_dataset(name: DatasetName, rooms: RoomsOf) -> Response:
    """Forget a dataset that no unfinished run reads."""
    return answer(await rooms.call(wire.DATASETS_DELETE, name=name))


@routes.get("/artifacts", summary="List artifacts", response_model=ArtifactList)
async def list_artifacts(rooms: RoomsOf) -> Response:
    """Return every published model, oldest first, and what encoders and searches use."""
    found = await rooms.call(wire.ARTIFACTS_LIST)
    live, searched = await _in_use(rooms, found)
    return answer({"items": found, "live": live, "searched": searched})


@routes.get("/artifacts/{artifact}", summary="Get an artifact", response_model=Manifest)
async def get_artifact(artifact: Reference, rooms: RoomsOf) -> Response:
    """Return one published model."""
    for manifest in await rooms.call(wire.ARTIFACTS_LIST):
        if artifact == manifest["artifact_id"] or artifact in manifest["aliases"]:
            return answer(manifest)
    raise ArtifactNotFound(f"artifact must be the id or alias of a published one. Got {artifact!r}. See /v1/artifacts.")


@routes.post("/artifacts/{artifact}/promote", summary="Promote an artifact", response_model=Promoted)
async def promote(artifact: Reference, rooms: RoomsOf, form: PromoteForm | None = None) -> Response:
    """Point an alias, 'live' by default, to an artifact or back to a backbone; encoders follow at once.

    An artifact that became worse by tuning is refused with 422, unless `force` is true.
    """
    asked = {} if form is None else form.dict()
    return answer(await rooms.call(wire.ARTIFACTS_PROMOTE, artifact=artifact, **asked))


@routes.post("/evaluate", summary="Score a model", response_model=Evaluated)
async def evaluate(form: EvaluateForm, rooms: RoomsOf) -> Response:
    """Score an artifact or a backbone on a dataset of pairs; takes as long as encoding it."""
    return answer(await rooms.call(wire.EVALUATE, **form.dict()))


async def _in_use(rooms: Rooms, artifacts: list[dict[str, Any]]) -> tuple[str, str]:
    """Return what `live` and its searches mean; of a Flow without an index, only artifacts are known."""
    try:
        await rooms.require(wire.STATUS)
        status = await rooms.call(wire.STATUS)
        return status["promoted"], status["searched"]
    except NotFound:
        by_alias = {alias: each["artifact_id"] for each in artifacts for alias in each["aliases"]}
        return by_alias.get(LIVE, ""), by_alias.get(SEARCHED, "")
