"""Runs with their metrics, curves, notes and examples: /v1/runs, /v1/experiments."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from finetuner.contract import wire

from .answers import answer
from .api_v1 import ExperimentName, Page, RunName
from .form import Answer, Form
from .route import RoomsOf, failures, router
from .run_forms import MAX_OFFSET, MAX_TEXT, NAME, NAME_TEXT

MAX_SIZE = wire.MAX_PAGE_SIZE
MAX_FILTER = 256  # characters
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
    note: str = Field("", description="What people wrote beside the run.")
    tags: list[str] = Field([], description="What people tagged the run with.")
    metrics: Metrics = Field(..., description="{'before': {name: value}, 'after': {...}} of a finished run.")


class RunList(Answer):
    """One page of the runs of all experiments, newest first."""

    items: list[Run]
    total: int = Field(..., description="Number of runs on all pages.")
    page: int = Field(..., description="Page number, from 1.")
    size: int = Field(..., description="Items per page.")


class EditForm(Form):
    """What to change of a run; a missing or null field leaves its part as it is."""

    new_name: str | None = Field(None, regex=NAME, description=f"New in the experiment: {NAME_TEXT}.")
    note: str | None = Field(None, max_length=MAX_TEXT, description="Free text.")
    tags: list[str] | None = Field(None, max_items=16, description="1 to 40 printable characters each, no commas.")


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


Text = Annotated[str, Query(max_length=MAX_FILTER, description="Part of name, experiment or note, or an artifact id.")]
Statuses = Annotated[str, Query(max_length=MAX_FILTER, description="One status, or several with commas.")]
Model = Annotated[str, Query(max_length=MAX_FILTER, description="Backbone, or id of the artifact to start from.")]
Data = Annotated[str, Query(max_length=MAX_FILTER, description="Name of the training or evaluation data.")]
Experiment = Annotated[str, Query(max_length=MAX_FILTER, description="Experiment of the runs.")]
Tag = Annotated[str, Query(max_length=MAX_FILTER, description="A tag of the runs.")]
Moment = Annotated[float | None, Query(ge=0, le=1e11, description="Created then; seconds since the epoch.")]
Metric = Annotated[str, Query(max_length=MAX_FILTER, description="Metric after training, for `least` and `sort`.")]
Least = Annotated[float | None, Query(ge=-1e12, le=1e12, description="The metric must be at least this.")]
Sort = Annotated[str, Query(max_length=MAX_FILTER, description=f"One of {', '.join(wire.RUN_SORTS)}.")]


@routes.get("/runs", summary="List runs page by page", response_model=RunList)
async def list_runs(
    rooms: RoomsOf,
    page: Page = 1,
    size: Annotated[int, Query(ge=1, le=MAX_SIZE, description="Items per page.")] = 100,
    text: Text = "",
    status: Statuses = "",
    model: Model = "",
    data: Data = "",
    experiment: Experiment = "",
    tag: Tag = "",
    since: Moment = None,
    until: Moment = None,
    metric: Metric = "",
    least: Least = None,
    sort: Sort = "created",
    descending: Annotated[bool, Query(description="Whether the largest, or newest, comes first.")] = True,
) -> Response:
    """Return one page of the runs of all experiments, newest first, or as the filters and `sort` say."""
    asked = {
        "text": text, "status": status, "model": model, "data": data, "experiment": experiment, "tag": tag,
        "since": since, "until": until, "metric": metric, "least": least, "sort": sort, "descending": descending,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in asked.items() if value not in ("", None)}
    return answer(await rooms.call(wire.RUNS_PAGE, page=page, size=size, **given) | {"page": page, "size": size})


@routes.get("/runs/events", include_in_schema=False)  # it has no end, as tools expect of an answer in a schema
async def follow_runs(request: Request) -> Response:
    """Stream server-sent events: the runs by status (`data: {"counts": {...}}`), now and after each change."""
    request.app.state.streams.check()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = request.app.state.run_changes.stream()
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


@routes.get("/experiments/{experiment}/runs/{run}", summary="Get a run", response_model=Run)
async def get_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return one run."""
    named = {"name": run, "experiment": experiment}
    found, metrics = await rooms.call(wire.RUNS_GET, **named), {}
    if found["status"] == wire.FINISHED:
        metrics = (await rooms.call(wire.RUNS_METRICS, **named, after=MAX_OFFSET))["scores"]
    return answer(found | {"metrics": metrics})


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


@routes.post(
    "/experiments/{experiment}/runs/{run}/edit",
    summary="Change a run's name, note or tags",
    response_model=Run,
    responses=failures(_409="The experiment already has a run of the new name."),
)
async def edit_run(experiment: ExperimentName, run: RunName, form: EditForm, rooms: RoomsOf) -> Response:
    """Change what people call a run. A run gets another name once it has ended; its artifact keeps the old one."""
    given = {name: value for name, value in form.dict().items() if value is not None}
    return answer(await rooms.call(wire.RUNS_EDIT, name=run, experiment=experiment, **given) | {"metrics": {}})


@routes.post("/experiments/{experiment}/runs/{run}/delete", summary="Delete a run", response_model=Run)
async def delete_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Delete a run that has ended, with its log and note. Its artifact stays."""
    return answer(await rooms.call(wire.RUNS_DELETE, name=run, experiment=experiment) | {"metrics": {}})
