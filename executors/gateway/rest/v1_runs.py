"""Runs as people watch them: all of them with their metrics, and one as it trains; /v1/runs, /v1/experiments."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field

from executors.gateway.flow.rooms import Rooms
from finetuner.contract import wire

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
    experiment: str = Field(..., description="That it belongs to.")
    artifact_id: str = Field(..., description="24 hex characters; published when the run has finished.")
    config: dict[str, Any] = Field(..., description="The fields of RunConfig.")
    status: wire.RunState
    details: str = Field(..., description="One line for people.")
    created_at: float = Field(..., description="Seconds since the epoch.")
    started_at: float | None = Field(None, description="The same.")
    ended_at: float | None = Field(None, description="The same.")
    metrics: Metrics = Field(..., description="{'before': {name: value}, 'after': {...}}, once it has finished.")


class RunList(Answer):
    """One page of the runs of all experiments, newest first."""

    items: list[Run]
    total: int = Field(..., description="How many there are on all pages.")
    page: int = Field(..., description="From 1.")
    size: int = Field(..., description="Items a page.")


class Step(Answer):
    """What was reported at one step."""

    step: int = Field(..., description="From 1.")
    epoch: float = Field(..., description="Passes over the data so far.")
    loss: float | None = Field(None, description="Of the training data.")
    val_loss: float | None = Field(None, description="Of the held-out data.")
    learning_rate: float | None = Field(None, description="At this step.")
    pairs_per_s: float | None = Field(None, description="Pairs or images a second.")


class Evaluation(Answer):
    """What was measured while training."""

    step: int = Field(..., description="0 is before training.")
    epoch: float = Field(..., description="Passes over the data so far.")
    metrics: dict[str, float | None] = Field(..., description="Name -> value.")


class History(Answer):
    """What charts show."""

    steps: list[Step]
    evaluations: list[Evaluation]


routes = router("Runs", "/v1")


@routes.get("/runs", summary="List all runs", response_model=RunList)
async def list_runs(
    rooms: RoomsOf,
    page: Page = 1,
    size: Annotated[int, Query(ge=1, le=MAX_SIZE, description="Items a page.")] = 100,
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


@routes.get("/experiments/{experiment}/runs/{run}/history", summary="How a run goes", response_model=History)
async def get_history(
    experiment: ExperimentName,
    run: RunName,
    rooms: RoomsOf,
    after: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="Step behind which to begin.")] = 0,
) -> Response:
    """Return what the run has reported so far: losses by step, and evaluations."""
    return answer(await rooms.call(wire.RUNS_HISTORY, name=run, experiment=experiment, after=after))


@routes.post("/experiments/{experiment}/runs/{run}/cancel", summary="Cancel a run", response_model=Run)
async def cancel_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """End a run; one that has ended stays as it is."""
    return answer(await rooms.call(wire.RUNS_CANCEL, name=run, experiment=experiment) | {"metrics": {}})


@routes.post("/experiments/{experiment}/runs/{run}/resume", summary="Resume a run", response_model=Run)
async def resume_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Let a run that failed or was canceled go on from its last checkpoint."""
    return answer(await rooms.call(wire.RUNS_RESUME, name=run, experiment=experiment) | {"metrics": {}})


async def _metrics(rooms: Rooms) -> dict[str, Metrics]:
    """Return the metrics of every published artifact, which a run's are once it has finished."""
    return {each["artifact_id"]: each["metrics"] for each in await rooms.call(wire.ARTIFACTS_LIST)}
