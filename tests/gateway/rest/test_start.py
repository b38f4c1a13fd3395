"""The same run as Python code and as a command, whatever texts it has."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any

from finetuner.config.run_config import RunConfig
from finetuner.executors.gateway.rest.manage.options import all_options
from finetuner.executors.gateway.rest.manage.start import CheckForm, as_command, as_python, fit_arguments
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


def test_code_starts_the_run_with_the_recipe_of_the_body_or_with_none() -> None:
    images = form(model={"name": "resnet50"})
    found = [fit_arguments(asked).get("recipe") for asked in (form(), form(recipe="keep"), images)]
    assert found == ["none", "keep", None]


def test_code_never_names_a_callback_that_is_no_name() -> None:
    assert "import os" not in as_python({"model": "m", "callbacks": [{"name": "x\nimport os", "options": {}}]})


def test_every_option_at_its_default_makes_a_body_that_is_taken() -> None:
    run: dict[str, Any] = {"name": "mine"}
    config: dict[str, Any] = {"model": {"name": "clip-mini"}, "data": {"train_data": "pairs"}}
    for option in all_options()["options"]:
        assert option["help"], option["name"]
        if option["default"] in (None, "", [], {}):
            continue
        group = option["group"]
        target = run if group == "run" else config if not group else config.setdefault(group, {})
        target[option["field"]] = option["default"]
    checked = CheckForm.parse_obj({"run": {**run, "config": config}})
    plain = RunConfig.from_dict(run_config(form().run, "default"))
    assert RunConfig.from_dict(run_config(checked.run, "default")).training_options == plain.training_options == {}
