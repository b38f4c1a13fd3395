"""Finetuner's old REST API for its published clients: experiments and runs under /api/v1."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from finetuner.contract import wire
from finetuner.exceptions import ExperimentNotFound, InvalidInput

from ..flow.rooms import Rooms
from .answers import answer
from .logstream import follow_log, read_log
from .route import RoomsOf, failures, router
from .run_forms import (
    MAX_OFFSET,
    NAME,
    NAME_TEXT,
    ExampleTexts,
    Experiment,
    ExperimentForm,
    ExperimentPage,
    LegacyRun,
    LegacyRunStatus,
    RunForm,
    RunPage,
    Scores,
)
from .run_request import described_experiment, described_run, run_config

MAX_PAGE, MAX_SIZE = 10**9, 100

ExperimentName = Annotated[str, Path(pattern=NAME, description=f"The experiment: {NAME_TEXT}.")]
RunName = Annotated[str, Path(pattern=NAME, description=f"The run: {NAME_TEXT}.")]
Page = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Page number, from 1.")]
Size = Annotated[int, Query(ge=1, le=MAX_SIZE, description="Items per page.")]


def _texts(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}, "description": description}}


routes = router("Finetuner API", "/api/v1")


@routes.post("/experiments/", summary="Create an experiment", response_model=Experiment)
@routes.post("/experiments", include_in_schema=False)
async def create_experiment(form: ExperimentForm, rooms: RoomsOf) -> Response:
    """Return the experiment of that name, created if it does not exist."""
    return answer(described_experiment(await rooms.call(wire.EXPERIMENTS_CREATE, name=form.name)))


@routes.get("/experiments/", summary="List experiments", response_model=ExperimentPage)
@routes.get("/experiments", include_in_schema=False)
async def list_experiments(rooms: RoomsOf, page: Page = 1, size: Size = 50) -> Response:
    """Return one page of the experiments, oldest first."""
    found = await rooms.call(wire.EXPERIMENTS_LIST)
    return answer(_page([described_experiment(experiment) for experiment in found], page, size))


@routes.delete("/experiments/", summary="Delete every experiment", response_model=list[Experiment])
@routes.delete("/experiments", include_in_schema=False)
async def delete_experiments(rooms: RoomsOf) -> Response:
    """Delete every experiment with its runs, which must all have ended. Artifacts stay."""
    found = await rooms.call(wire.EXPERIMENTS_LIST)
    _require_ended(await rooms.call(wire.RUNS_LIST))
    for experiment in found:
        await rooms.call(wire.EXPERIMENTS_DELETE, name=experiment["name"])
    return answer([described_experiment(experiment) for experiment in found])


@routes.get("/experiments/{experiment}", summary="Get an experiment", response_model=Experiment)
async def get_experiment(experiment: ExperimentName, rooms: RoomsOf) -> Response:
    """Return one experiment."""
    return answer(await _experiment(rooms, experiment))


@routes.delete("/experiments/{experiment}", summary="Delete an experiment", response_model=Experiment)
async def delete_experiment(experiment: ExperimentName, rooms: RoomsOf) -> Response:
    """Delete an experiment with its runs, which must all have ended. Artifacts stay."""
    found = await _experiment(rooms, experiment)
    await rooms.call(wire.EXPERIMENTS_DELETE, name=experiment)
    return answer(found)


@routes.post(
    "/experiments/{experiment}/runs",
    summary="Create a run",
    status_code=201,
    response_model=LegacyRun,
    responses=failures(_409="The experiment already has a run of that name."),
)
@routes.post("/experiments/{experiment}/runs/", status_code=201, include_in_schema=False)
async def create_run(experiment: ExperimentName, form: RunForm, rooms: RoomsOf) -> Response:
    """Create a run, as `finetuner.fit` does. The Flow starts it. Push its datasets first."""
    config = run_config(form, experiment)
    if "model" not in config:
        config["model"] = await _backbone(rooms, config.get("model_artifact", ""))
    return answer(described_run(await rooms.call(wire.FIT, config=config)), 201)


@routes.get("/experiments/{experiment}/runs", summary="List runs", response_model=RunPage)
@routes.get("/experiments/{experiment}/runs/", include_in_schema=False)
async def list_runs(experiment: ExperimentName, rooms: RoomsOf, page: Page = 1, size: Size = 50) -> Response:
    """Return one page of an experiment's runs, oldest first."""
    found = await rooms.call(wire.RUNS_LIST, experiment=experiment)
    if not found:
        await _experiment(rooms, experiment)
    return answer(_page([described_run(run) for run in found], page, size))


@routes.get("/runs/runs", include_in_schema=False)  # the published client calls it for list_runs without an experiment
async def list_all_runs(rooms: RoomsOf, page: Page = 1, size: Size = 50) -> Response:
    """Return one page of all runs, oldest first."""
    return answer(_page([described_run(run) for run in await rooms.call(wire.RUNS_LIST)], page, size))


@routes.delete("/experiments/{experiment}/runs", summary="Delete an experiment's runs", response_model=list[LegacyRun])
@routes.delete("/experiments/{experiment}/runs/", include_in_schema=False)
async def delete_runs(experiment: ExperimentName, rooms: RoomsOf) -> Response:
    """Delete every run of an experiment, which must all have ended. Artifacts stay."""
    found = await rooms.call(wire.RUNS_LIST, experiment=experiment)
    _require_ended(found)
    for run in found:
        await rooms.call(wire.RUNS_DELETE, name=run["name"], experiment=experiment)
    if not found:
        await _experiment(rooms, experiment)
    return answer([described_run(run) for run in found])


@routes.get("/experiments/{experiment}/runs/{run}", summary="Get a run", response_model=LegacyRun)
async def get_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return one run."""
    return answer(described_run(await rooms.call(wire.RUNS_GET, name=run, experiment=experiment)))


@routes.delete("/experiments/{experiment}/runs/{run}", summary="Delete a run", response_model=LegacyRun)
async def delete_run(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Delete a run that has ended, with its log. Its artifact stays."""
    return answer(described_run(await rooms.call(wire.RUNS_DELETE, name=run, experiment=experiment)))


@routes.get("/experiments/{experiment}/runs/{run}/status", summary="Get a run's status", response_model=LegacyRunStatus)
async def get_status(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return a run's status."""
    return answer(await rooms.call(wire.RUNS_STATUS, name=run, experiment=experiment))


@routes.get(
    "/experiments/{experiment}/runs/{run}/logs",
    summary="Get a run's log",
    response_class=Response,
    responses=_texts("text/plain", "The log."),
)
async def get_logs(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return the log written so far as plain text. It is empty until the run starts."""
    named = {"name": run, "experiment": experiment}
    first = await rooms.call(wire.RUNS_LOGS, **named, offset=0)
    return StreamingResponse(read_log(rooms, named, first), media_type="text/plain")


@routes.get(
    "/experiments/{experiment}/runs/{run}/logstream",
    summary="Follow a run's log",
    response_class=Response,
    responses={
        **_texts("text/event-stream", "The events."),
        204: {"description": "The run has ended, and its log ends at Last-Event-ID."},
    },
)
async def get_logstream(
    experiment: ExperimentName,
    run: RunName,
    request: Request,
    rooms: RoomsOf,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=MAX_OFFSET, description="`id` of the last event received; the stream resumes after it."),
    ] = None,
) -> Response:
    """Stream the log as server-sent events, one line each (`data: LINE`), until the run ends."""
    streams = request.app.state.streams
    streams.check()
    named, offset = {"name": run, "experiment": experiment}, last_event_id or 0
    page = await rooms.call(wire.RUNS_LOGS, **named, offset=offset)
    if last_event_id is not None and page["status"] in wire.ENDED and page["offset"] == offset:
        return Response(status_code=204)  # tells a browser not to reconnect
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    events = follow_log(rooms, named, offset, streams)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


@routes.get("/experiments/{experiment}/runs/{run}/metrics", summary="Get a run's metrics", response_model=Scores)
async def get_metrics(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return the metrics before and after training, empty if there are none yet."""
    return answer((await rooms.call(wire.RUNS_METRICS, name=run, experiment=experiment))["scores"])


@routes.get(
    "/experiments/{experiment}/runs/{run}/examples",
    summary="Get a run's example queries as texts",
    response_model=ExampleTexts,
)
async def get_examples(experiment: ExperimentName, run: RunName, rooms: RoomsOf) -> Response:
    """Return the matches of example queries before and after training, if an EvaluationCallback gathered them.

    The published client prints each match as it is. `/v1/experiments/...` has them with their thumbnails.
    """
    found = (await rooms.call(wire.RUNS_EXAMPLES, name=run, experiment=experiment))["examples"]
    return answer(
        {
            stage: {query: [match["match"] for match in matches] for query, matches in queries.items()}
            for stage, queries in found.items()
        }
    )


async def _experiment(rooms: Rooms, name: str) -> dict[str, Any]:
    found = {each["name"]: each for each in await rooms.call(wire.EXPERIMENTS_LIST)}
    if name not in found:
        known = ", ".join(found) or "none"
        raise ExperimentNotFound(f"experiment must be one of: {known:.500}. Got {name!r}.")
    return described_experiment(found[name])


async def _backbone(rooms: Rooms, artifact: str) -> str:
    """Return the backbone of an artifact. Older clients name only the artifact."""
    if not artifact:
        raise InvalidInput("config.model must have a name or an artifact. Got neither. Set name.")
    manifest = (await rooms.call(wire.ARTIFACTS_PULL, artifact=artifact))["manifest"]
    return str(json.loads(manifest)["backbone"])


def _require_ended(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        if run["status"] not in wire.ENDED:
            raise InvalidInput(
                f"All runs must have ended. Got {run['name']!r}, which is {run['status']}. Cancel it first."
            )


def _page(items: list[dict[str, Any]], page: int, size: int) -> dict[str, Any]:
    return {"items": wire.page_of(items, page, size), "total": len(items), "page": page, "size": size}
