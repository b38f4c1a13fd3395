"""Datasets, artifacts and their evaluation: /v1/datasets, /v1/artifacts, /v1/evaluate."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import Field

from finetuner.artifacts.registry import LIVE, SEARCHED
from finetuner.contract import wire
from finetuner.exceptions import ArtifactNotFound, NotFound

from ..flow.rooms import Rooms
from . import documents
from .answers import answer
from .document_forms import MAX_REFERENCE, REFERENCE, Found
from .form import Answer, Form
from .route import RoomsOf, failures, router
from .run_forms import MAX_OFFSET, NAME, NAME_TEXT

MAX_SHOWN = 100


class Dataset(Answer):
    """A dataset."""

    name: str = Field(..., description=f"{NAME_TEXT}.")
    version: str = Field(..., description="SHA-256 of the documents in their order, without their ids, hex.")
    documents: int = Field(..., description="Number of documents.")
    size: int = Field(..., description="Bytes of the documents.")
    created_at: float = Field(..., description="Seconds since the epoch.")
    stream_size: int = Field(..., description="Bytes of a download; 0 if not known.")
    kind: str = Field(..., description="'pairs', 'scored pairs', 'labelled', 'documents', or '' if not known.")


class DatasetList(Answer):
    """All datasets, by name."""

    items: list[Dataset]


class Shown(Answer):
    """A page of a dataset's documents. Images are JPEGs of at most 256 pixels a side."""

    documents: list[Found]
    total: int = Field(..., description="Number of documents in the dataset.")


class DatasetReport(Answer):
    """The statistics of a dataset, as `finetuner data stats --json` prints them."""

    statistics: dict[str, Any] = Field(..., description="Fields of finetuner.statistics.describe.Statistics.")
    overlap: dict[str, Any] | None = Field(..., description="What the evaluation data has of this, null without any.")
    troubles: list[str] = Field(..., description="A sentence for each trouble.")
    without_tokens: str = Field(..., description="The reason why no tokens are counted, '' if they are.")


class Caption(Form):
    """A new caption."""

    position: int = Field(..., ge=0, le=2**53, description="Position of the document, from 0.")
    text: str = Field(..., min_length=1, description="The caption.")


class DatasetEditForm(Form):
    """Changes of a dataset, or an earlier version to go back to."""

    version: str = Field(..., description="Version that the changes are made for; a newer one is not overwritten.")
    captions: list[Caption] = Field([], max_items=1000, description="New captions.")
    removed: list[int] = Field([], max_items=10_000, description="Positions of documents to leave out.")
    restore: str = Field("", max_length=64, description="Instead of changes: an earlier version.")


class DatasetSplitForm(Form):
    """The two parts of a dataset."""

    version: str = Field(..., max_length=64, description="Version that was looked at; a newer one is not split.")
    train: str = Field(..., regex=NAME, description="Name of the new dataset with most documents.")
    evaluation: str = Field(..., regex=NAME, description="Name of the new dataset with the others.")
    share: float = Field(0.2, ge=0.01, le=0.9, description="Share of the images, or labels, for evaluation.")


class DatasetSplit(Answer):
    """The two new datasets."""

    train: Dataset
    evaluation: Dataset


class Manifest(Answer):
    """A published model."""

    artifact_id: str = Field(..., description="24 hex characters.")
    run_name: str = Field(..., description="Run that made the model.")
    backbone: str = Field(..., description="Backbone of the model.")
    output_dim: int = Field(..., description="Size of an embedding.")
    towers: list[str] = Field(..., description="Towers of the model.")
    metrics: dict[str, dict[str, float | None]] = Field(..., description="{'before': {name: value}, 'after': {...}}.")
    data: dict[str, str] = Field(..., description="Content hashes of training and evaluation data.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    code_version: str = Field(..., description="Version of open-finetuner.")
    parent: str = Field(..., description="Artifact or backbone whose weights the run started from.")
    training: dict[str, Any] = Field(..., description="Training options in force; empty for older artifacts.")
    format: int = Field(..., description="Format version of the manifest.")
    files: dict[str, dict[str, Any]] = Field(..., description="Path -> size in bytes and SHA-256.")
    sha256: str = Field(..., description="SHA-256 of the manifest, hex.")


class Artifact(Manifest):
    """A published model and its aliases."""

    aliases: list[str] = Field(..., description="Aliases of the artifact, such as 'live'.")


class ArtifactList(Answer):
    """All published models, oldest first."""

    items: list[Artifact]
    live: str = Field(
        ..., description="Artifact or backbone promoted last; '' if none was, and encoders use their backbone."
    )
    searched: str = Field(..., description="Artifact that searches of 'live' use until the re-index ends, or ''.")


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
    """An alias and its new target."""

    alias: str = Field(..., description="The alias.")
    artifact: str = Field(..., description="The artifact or backbone.")


class EvaluateForm(Form):
    """A model and the data to evaluate it on."""

    model: str = Field(LIVE, min_length=1, max_length=MAX_REFERENCE, description=REFERENCE)
    data: str = Field(..., regex=NAME, description="Name of a dataset of pairs.")
    limit: int = Field(20, ge=1, le=1000, description="k of the metrics at k.")


class Evaluated(Answer):
    """The metrics of a model."""

    model: str = Field(..., description="The artifact or backbone.")
    data: str = Field(..., description="The dataset.")
    documents: int = Field(..., description="Number of documents in the dataset.")
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


@routes.get("/datasets/{name}/documents", summary="List documents of a dataset", response_model=Shown)
async def show_dataset(
    name: DatasetName,
    rooms: RoomsOf,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Number of documents to skip.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_SHOWN, description="Maximum number of documents.")] = 20,
) -> Response:
    """Return a page of a dataset's documents in their order. A pair is a document with two chunks."""
    (dataset,) = await rooms.call(wire.DATASETS_LIST, name=name)
    asked = {"version": dataset["version"], "offset": offset, "limit": limit}
    shown = documents.or_raise(await rooms.post(wire.DATASETS_SHOW, **asked))
    total = dataset["documents"]
    return await asyncio.to_thread(lambda: answer({"documents": [*map(documents.found, shown)], "total": total}))


@routes.get("/datasets/{name}/stats", summary="Get the statistics of a dataset", response_model=DatasetReport)
async def describe_dataset(
    name: DatasetName,
    rooms: RoomsOf,
    evaluation: Annotated[
        str,
        Query(alias="eval", pattern=f"^$|{NAME}", description="Name of evaluation data, to count what both have."),
    ] = "",
    model: Annotated[
        str, Query(min_length=1, max_length=MAX_REFERENCE, description="Backbone whose tokenizer counts tokens.")
    ] = "clip-base-en",
) -> Response:
    """Return counts, lengths, sizes, duplicates, the oddest images and captions, and what predicts trouble.

    The report is made once for each content. Up to 4,000 images are looked at.
    """
    return answer(await rooms.call(wire.DATASETS_STATS, name=name, eval=evaluation, model=model))


@routes.post("/datasets/{name}/edit", summary="Change a dataset", response_model=Dataset)
async def edit_dataset(name: DatasetName, rooms: RoomsOf, form: DatasetEditForm) -> Response:
    """Make a new version of a dataset with other captions, or without some documents. Runs keep the old one.

    `restore` with the version before takes a change back.
    """
    return answer(await rooms.call(wire.DATASETS_UPLOAD, edit=form.dict() | {"name": name}))


@routes.post(
    "/datasets/{name}/split",
    summary="Split a dataset",
    response_model=DatasetSplit,
    responses=failures(_409="A dataset has one of the new names."),
)
async def split_dataset(name: DatasetName, rooms: RoomsOf, form: DatasetSplitForm) -> Response:
    """Make two new datasets of one, for training and evaluation. Pairs of one label, or one image, stay together."""
    return answer(await rooms.call(wire.DATASETS_UPLOAD, split=form.dict() | {"name": name}))


@routes.post(
    "/datasets/{name}/sample",
    summary="Make a dataset of sample data",
    response_model=Dataset,
    responses=failures(_409="A dataset has that name."),
)
async def make_sample(name: DatasetName, rooms: RoomsOf) -> Response:
    """Make a dataset of drawn garments with captions, to look around with."""
    return answer(await rooms.call(wire.DATASETS_UPLOAD, sample=name))


@routes.delete("/datasets/{name}", summary="Delete a dataset", response_model=Dataset)
async def delete_dataset(name: DatasetName, rooms: RoomsOf) -> Response:
    """Delete a dataset that no unfinished run uses."""
    return answer(await rooms.call(wire.DATASETS_DELETE, name=name))


@routes.get("/artifacts", summary="List artifacts", response_model=ArtifactList)
async def list_artifacts(rooms: RoomsOf) -> Response:
    """Return every published model, oldest first, and the models that encoders and searches use."""
    found = await rooms.call(wire.ARTIFACTS_LIST)
    live, searched = await _in_use(rooms, found)
    return answer({"items": found, "live": live, "searched": searched})


@routes.get("/artifacts/{artifact}", summary="Get an artifact", response_model=Artifact)
async def get_artifact(artifact: Reference, rooms: RoomsOf) -> Response:
    """Return one published model."""
    for manifest in await rooms.call(wire.ARTIFACTS_LIST):
        if artifact == manifest["artifact_id"] or artifact in manifest["aliases"]:
            return answer(manifest)
    raise ArtifactNotFound(
        f"artifact must be the id or alias of a published artifact. Got {artifact!r}. See /v1/artifacts."
    )


@routes.post("/artifacts/{artifact}/promote", summary="Promote an artifact", response_model=Promoted)
async def promote(artifact: Reference, rooms: RoomsOf, form: PromoteForm | None = None) -> Response:
    """Point an alias, 'live' by default, to an artifact or back to a backbone; encoders follow at once.

    An artifact that became worse by tuning is refused with 422, unless `force` is true.
    """
    asked = {} if form is None else form.dict()
    return answer(await rooms.call(wire.ARTIFACTS_PROMOTE, artifact=artifact, **asked))


@routes.post("/evaluate", summary="Evaluate a model", response_model=Evaluated)
async def evaluate(form: EvaluateForm, rooms: RoomsOf) -> Response:
    """Evaluate an artifact or a backbone on a dataset of pairs. This takes the time to encode the dataset."""
    return answer(await rooms.call(wire.EVALUATE, **form.dict()))


async def _in_use(rooms: Rooms, artifacts: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the target of `live` and of its searches. Without an index, both come from the artifacts' aliases."""
    try:
        await rooms.require(wire.STATUS)
        status = await rooms.call(wire.STATUS)
        return status["promoted"], status["searched"]
    except NotFound:
        by_alias = {alias: each["artifact_id"] for each in artifacts for alias in each["aliases"]}
        return by_alias.get(LIVE, ""), by_alias.get(SEARCHED, "")
