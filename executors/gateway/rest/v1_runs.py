"""Runs with their metrics, curves and examples: /v1/runs, /v1/experiments."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field

from finetuner.contract import wire

from ..flow.rooms import Rooms
from .answers import answer
from .api_v1 import ExperimentName, Page, RunName
from .form import Answer
from .route import RoomsOf, router
from .run_forms import MAX_OFFSET, NAME_TEXT

MAX_SIZE = 1000
Metrics = dict[str, dict[str, float | None]]


class Run(Answer):
    """A run."""

    name: str = Field(..., description=f"Unique in its experiment: {NAME_TEXT}.")
    experiment: str = Field(..., description="Experiment of the run.")
    artifact_id: str = Field(..., description="24 hex characters. The artifact is published when the run has finished.")
    config: dict[str, Any] = Field(..., description="Fields of RunConfig.")
    resolved: dict[str, Any] = Field(..., description="Training options in force; empty until training begins.")
    status: wire.RunState
    details: str = Field(..., description="One line of explanation.")
    created_at: float = Field(..., description="Seconds since the epoch.")
    started_at: float | None = Field(None, description="Seconds since the epoch.")
    ended_at: float | None = Field(None, description="Seconds since the epoch.")
    metrics: Metrics = Field(..., description="{'before': {name: value}, 'after': {...}} of a finished run.")


class RunList(Answer):
    """One page of the runs of all experiments, newest first."""

    items: list[Run]
    total: int = Field(..., description="Number of runs on all pages.")
    page: int = Field(..., description="Page number, from 1.")
    size: int = Field(..., description="Items per page.")


class Step(Answer):
    """One point of the curve: means since the point before."""

    step: int = Field(..., description="From 1.")
    epoch: int = Field(..., description="From 1.")
    loss: float | None = Field(..., description="Mean on the training data.")
    learning_rate: float = Field(..., description="At this step.")
    pairs_per_second: float = Field(..., description="Pairs or images a second.")
    data_wait: float = Field(..., description="Share of the time, in [0, 1], spent waiting for data.")
    memory: int = Field(..., description="Bytes: of the process on a CPU, PyTorch's peak on a GPU.")
    val_loss: float | None = Field(None, description="On the held-out data, at the last step of an epoch.")


class Evaluation(Answer):
    """All metrics measured at one step."""

    step: int = Field(..., description="0 is before training.")
    epoch: int = Field(..., description="0 is before training.")
    metrics: dict[str, float | None] = Field(..., description="Name -> value.")


class Curve(Answer):
    """The metrics of a run, with its curve."""

    status: wire.RunState
    details: str = Field(..., description="One line for people.")
    scores: Metrics = Field(..., description="{'before': {name: value}, 'after': {...}}, as far as they are known.")
    steps: list[Step]
    evaluations: list[Evaluation]


class ExampleMatch(Answer):
    """A match of an example query."""

    match: str = Field(..., description="Text of the match, or the label or id of its image.")
    relevant: bool = Field(..., description="Whether the match is relevant to the query.")
    image: str = Field(..., description="Thumbnail as a data URI, '' for a text.")


class Examples(Answer):
    """Matches of example queries, best first."""

    before: dict[str, list[ExampleMatch]] | None = Field(None, description="Query -> matches.")
    after: dict[str, list[ExampleMatch]] | None = Field(None, description="Query -> matches.")


routes = router("Runs", "/v1")


@routes.get("/runs", summary="List all runs", response_model=RunList)
async def list_runs(
    rooms: RoomsOf,
    page: Page = 1,
    size: Annotated[int, Query(ge=1, le=MAX_SIZE, description="Items per page.")] = 100,
) -> Response:
    """Return one page of the runs of all experiments, newest first."""
    runs = (await rooms.call(wire.RUNS_LIST))[::-1]
    metrics = await _metrics(rooms)
    items = [run | {"metrics": metrics.get(run["artifact_id"], {})} for run in wire.page_of(runs, page, size)]
    return answer({"items": items, "total": len(runs), "page": page, "size": size})


@routes.get("/experiments/{experiment}/runs/{run}", summary="Get a run", response_model=Run)
async def get_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return one run."""
    found = await rooms.call(wire.RUNS_GET, name=run, experiment=experiment)
    return answer(found | {"metrics": (await _metrics(rooms)).get(found["artifact_id"], {})})


@routes.get("/experiments/{experiment}/runs/{run}/metrics", summary="Get a run's metrics", response_model=Curve)
async def get_metrics(
    experiment: ExperimentName,
    run: RunName,
    rooms: RoomsOf,
    after: Annotated[
        int, Query(ge=0, le=MAX_OFFSET, description="Return only steps after this one, and evaluations from it on.")
    ] = 0,
) -> Response:
    """Return the scores of the run, its losses by step, and its evaluations, so far."""
    return answer(await rooms.call(wire.RUNS_METRICS, name=run, experiment=experiment, after=after))


@routes.get(
    "/experiments/{experiment}/runs/{run}/examples", summary="Get a run's example queries", response_model=Examples
)
async def get_examples(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return the matches of example queries before and after training, if an EvaluationCallback gathered them."""
    return answer((await rooms.call(wire.RUNS_EXAMPLES, name=run, experiment=experiment))["examples"])


@routes.post("/experiments/{experiment}/runs/{run}/cancel", summary="Cancel a run", response_model=Run)
async def cancel_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Cancel a run. A run that has ended stays as it is."""
    return answer(await rooms.call(wire.RUNS_CANCEL, name=run, experiment=experiment) | {"metrics": {}})


@routes.post("/experiments/{experiment}/runs/{run}/resume", summary="Resume a run", response_model=Run)
async def resume_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Resume a failed or canceled run from its last checkpoint."""
    return answer(await rooms.call(wire.RUNS_RESUME, name=run, experiment=experiment) | {"metrics": {}})


async def _metrics(rooms: Rooms) -> dict[str, Metrics]:
    """Return the metrics of every published artifact by id. A finished run has those of its artifact."""
    return {each["artifact_id"]: each["metrics"] for each in await rooms.call(wire.ARTIFACTS_LIST)}
