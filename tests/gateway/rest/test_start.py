"""The same run as Python code and as a command, whatever texts it has."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from finetuner.config.run_config import RunConfig
from finetuner.executors.gateway.rest.manage.options import all_options
from finetuner.executors.gateway.rest.manage.start import CheckForm, as_command, as_python
from finetuner.executors.gateway.rest.run_request import run_config

HOSTILE = '\'; rm -rf /; \'\n"""$(id)`id`</script><img onerror=x>'


def form(**config: object) -> CheckForm:
    options = {"model": {"name": "clip-mini"}, "data": {"train_data": "pairs"}, **config}
    return CheckForm.parse_obj({"run": {"name": "mine", "description": HOSTILE, "config": options}})


def test_code_and_command_hold_hostile_texts_as_literals() -> None:
    asked = form(callbacks=[{"name": "EvaluationCallback", "options": {"query_data": HOSTILE}}])
    given = run_config(asked.run, "default")
    (call,) = [each for each in ast.walk(ast.parse(as_python(given))) if isinstance(each, ast.Call) and each.keywords][
        :1
    ]
    values = {each.arg: each.value for each in call.keywords if each.arg != "callbacks"}
    assert ast.literal_eval(values["description"]) == HOSTILE
    assert set(values) == {"model", "train_data", "run_name", "description"}, "defaults are left out"
    words = shlex.split(as_command(asked, "http://127.0.0.1:51001/"))
    assert words[:4] == ["curl", "-X", "POST", "http://127.0.0.1:51001/api/v1/experiments/default/runs"]
    assert json.loads(words[-1])["description"] == HOSTILE


def test_code_never_names_a_callback_that_is_no_name() -> None:
    assert "import os" not in as_python({"model": "m", "callbacks": [{"name": "x\nimport os", "options": {}}]})


@pytest.mark.parametrize("option", all_options()["options"], ids=lambda option: option["name"])
def test_every_option_has_its_place_in_the_body(option: dict[str, object]) -> None:
    known = {"model", "data", "hyper_parameters", "training_options", "run", ""}
    assert option["group"] in known
    assert option["help"]
    if option["default"] is None or option["name"] in ("to_onnx", "freeze"):
        return
    group, field = str(option["group"]), str(option["field"])
    config: dict[str, object] = {"recipe": None}
    body = {"run": {"name": "mine", "config": {"model": {"name": "clip-mini"}, "data": {"train_data": "pairs"}}}}
    target = body["run"] if group == "run" else body["run"]["config"]  # type: ignore[index]
    if group not in ("run", ""):
        target = target.setdefault(group, config if group == "none" else {})  # type: ignore[attr-defined]
    if option["default"] not in ("", [], {}):
        target[field] = option["default"]  # type: ignore[index]
    RunConfig.from_dict(run_config(CheckForm.parse_obj(body).run, "default"))
