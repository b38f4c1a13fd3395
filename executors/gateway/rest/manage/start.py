"""A new run before it starts: its options, their check, and the same run as Python code and as a command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from pydantic import Field

from finetuner.config.recipes import NO_RECIPE
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.exceptions import DatasetNotFound, InvalidInput
from finetuner.models.backbone import IMAGE_TASK
from finetuner.models.backbones import find_backbone

from ...flow.rooms import Rooms
from ..answers import answer
from ..form import Answer, Form
from ..route import RoomsOf, router
from ..run_forms import NAME, NAME_TEXT, RunForm
from ..run_request import run_config
from .options import all_options

FEW_PAIRS, MANY_PAIRS = 2_000, 100_000  # of the recipes small-data and large-data

routes = router("Runs", "/v1")


class OptionList(Answer):
    """The choices of a new run."""

    models: list[dict[str, Any]] = Field(..., description="Name, task, description and licence of each backbone.")
    recipes: list[dict[str, str]] = Field(..., description="Name and purpose of each recipe; its only backbone or ''.")
    callbacks: list[str] = Field(..., description="Names of the callbacks.")
    options: list[dict[str, Any]] = Field(
        ..., description="Name, group and field in the body of a new run, type, default and help of each option."
    )


class CheckForm(Form):
    """A run to check before it starts."""

    experiment: str = Field("default", regex=NAME, description=f"Experiment of the run: {NAME_TEXT}.")
    run: RunForm = Field(..., description="As in POST /api/v1/experiments/{experiment}/runs.")


class Checked(Answer):
    """A run that could start."""

    config: dict[str, Any] = Field(..., description="The options in force; null where training chooses.")
    warnings: list[str] = Field(..., description="Sentences about what is allowed, but seldom meant.")
    python: str = Field(..., description="Python code that starts the run.")
    command: str = Field(..., description="A shell command that starts the run; it reads $FINETUNER_TOKEN.")


@routes.get("/options", summary="List the choices of a new run", response_model=OptionList)
async def list_options() -> Response:
    """Return models, recipes and every option with its help, as the form of a new run shows them."""
    return answer(all_options())


@routes.post("/runs/check", summary="Check a run before it starts", response_model=Checked)
async def check_run(form: CheckForm, request: Request, rooms: RoomsOf) -> Response:
    """Check the configuration of a run as its start does, and return it with warnings. Nothing is stored."""
    if form.run.config.model.name is None:
        raise InvalidInput("config.model.name must be the backbone, also of an artifact. Got none. Name it.")
    checked = RunConfig.from_dict(run_config(form.run, form.experiment))
    found = {
        "config": _in_force(checked),
        "warnings": await _warnings(checked, rooms),
        "python": as_python(fit_arguments(form)),
        "command": as_command(form, str(request.base_url)),
    }
    return answer(found)


def fit_arguments(form: CheckForm) -> dict[str, Any]:
    """Return the arguments of `finetuner.fit` for the same run. A recipe is named and not filled in."""
    plain = RunForm.parse_obj(form.run.dict())
    plain.config.recipe = None
    given = run_config(plain, form.experiment)
    if form.run.config.recipe is not None:
        given["recipe"] = form.run.config.recipe
    elif find_backbone(given["model"]).task != IMAGE_TASK:
        given["recipe"] = NO_RECIPE  # `fit` would choose one
    return given


def _in_force(config: RunConfig) -> dict[str, Any]:
    row = find_backbone(config.model)
    found = config.to_dict()
    found["batch_size"] = config.batch_size or row.batch_size
    found["learning_rate"] = config.learning_rate or row.learning_rate
    return found


async def _warnings(config: RunConfig, rooms: Rooms) -> list[str]:
    """Return sentences about the data of a run.

    Raises:
        DatasetNotFound: the training data does not exist.
    """
    known = {each["name"]: each for each in await rooms.call(wire.DATASETS_LIST)}
    for name in filter(None, (config.train_data, config.eval_data, config.guard_data)):
        if name not in known:
            raise DatasetNotFound(f"dataset must exist. Got {name!r}. Send it first, or choose another.")
    count, row = known[config.train_data]["documents"], find_backbone(config.model)
    batch, image, found = config.batch_size or row.batch_size, row.task == IMAGE_TASK, []
    if not config.eval_data and not config.val_split:
        found.append(
            "Without evaluation data nobody sees whether the run helps. Choose a dataset that it does not train on."
        )
    if config.eval_data and known[config.eval_data]["version"] == known[config.train_data]["version"]:
        found.append("The run is evaluated on the data that it trains on: its metrics say nothing about other data.")
    if batch > count:
        found.append(f"The batch of {batch} is larger than the data, {count}: each step takes all of it.")
    if not image and count <= FEW_PAIRS and config.recipe not in ("small-data", "keep"):
        found.append(f"{count} pairs are few. The recipe small-data is made for up to 2,000.")
    if not image and count > MANY_PAIRS and config.recipe != "large-data":
        found.append(f"{count} pairs are many. The recipe large-data is made for more than 100,000.")
    if config.device == "cpu" and count * config.epochs > MANY_PAIRS:
        found.append(f"{count * config.epochs} images are many for a CPU. Choose a GPU, or fewer epochs.")
    return found


def as_python(given: Mapping[str, Any]) -> str:
    """Return the call of `finetuner.fit` with these arguments. Texts are literals, whatever they hold."""
    callbacks = given.get("callbacks") or []
    lines = ["import finetuner"]
    if callbacks:
        names = sorted({each["name"] for each in callbacks if str(each["name"]).isidentifier()})
        lines.append(f"from finetuner.callback import {', '.join(names)}")
    lines += ["", "finetuner.login()", "run = finetuner.fit("]
    usual: tuple[Any, ...] = ({}, [], ("experiment_name", "default"), ("device", "gpu"))  # what `fit` takes by itself
    shown = {name: value for name, value in given.items() if value not in usual and (name, value) not in usual}
    lines += [f"    {name}={value!r}," for name, value in shown.items() if name != "callbacks"]
    if callbacks:
        calls = (f"{each['name']}(**{each['options']!r})" for each in callbacks if str(each["name"]).isidentifier())
        lines.append(f"    callbacks=[{', '.join(calls)}],")
    return "\n".join([*lines, ")", "run.stream_logs()", ""])


def as_command(form: CheckForm, base: str) -> str:
    """Return a command for a POSIX shell that starts the run. The body is one quoted word."""
    body = json.dumps(_without_nulls(json.loads(form.run.json())))
    address = f"{base.rstrip('/')}/api/v1/experiments/{form.experiment}/runs"
    return (
        f'curl -X POST {shlex.quote(address)} -H "Authorization: token $FINETUNER_TOKEN" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value
