"""The recipe of a call that names none, as `fit` sends it."""

from __future__ import annotations

from typing import Any

import pytest

import finetuner
from finetuner.api import session
from finetuner.contract import wire
from finetuner.exceptions import RunNotFound
from finetuner.transport.connection import Connection

PAIRS = {"few": 100, "many": 4100}


@pytest.fixture(autouse=True)
def flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Flow with two datasets, which takes every run, and has one of the recipe keep."""

    def call(self: Connection, endpoint: str, **given: Any) -> Any:
        if endpoint == wire.FIT:
            return {"name": "run", "experiment": "default", **given}
        if endpoint == wire.DATASETS_LIST:
            return [{"name": given["name"], "documents": PAIRS[given["name"]]}]
        if endpoint == wire.RUNS_GET and given["name"] == "earlier":
            return {"config": {"recipe": "keep"}}
        raise RunNotFound("no run yet")

    monkeypatch.setattr(Connection, "call", call)
    monkeypatch.setattr(session, "_current", Connection("grpc://127.0.0.1:1", ""))


def sent(data: str = "many", **given: Any) -> dict[str, Any]:
    return finetuner.fit("clip-mini", data, **given).config


def test_the_number_of_steps_decides_and_the_config_says_why() -> None:
    many, few = sent(), sent("few")
    assert (many["recipe"], many["optimizer"], many["scheduler"]) == ("default", "AdamW", "cosine")
    assert many["training_options"] == {"captions_per_image": 2}
    assert many["learning_rate"] == 2e-3
    assert many["recipe_choice"] == "4100 pairs make 165 steps, more than 160"
    assert (few["recipe"], few["optimizer"], few["scheduler"], few["learning_rate"]) == ("", "Adam", None, None)
    assert few["recipe_choice"] == "100 pairs make 5 steps, and up to 160 steps a constant learning rate is better"
    assert {**sent(), "run_name": many["run_name"]} == many  # the same call has the same recipe


def test_explicit_options_and_recipes_win() -> None:
    tutorial = sent(loss="CLIPLoss", optimizer="Adam", learning_rate=1e-5)
    assert (tutorial["recipe"], tutorial["scheduler"], tutorial["learning_rate"]) == ("", None, 1e-5)
    assert tutorial["recipe_choice"] == "the call sets optimizer, learning_rate"
    for name, found in (("keep", "keep"), ("none", "")):
        named = sent(recipe=name, eval_data="few")
        assert (named["recipe"], named["recipe_choice"]) == (found, "")
    kept = sent(training_options={"captions_per_image": 1, "lora_rank": 4})
    assert (kept["recipe"], kept["learning_rate"], kept["training_options"]) == ("default", None, {"lora_rank": 4})


def test_an_option_that_contradicts_the_chosen_recipe_wins() -> None:
    config = sent(replay_data="few", training_options={"distillation": 0})
    assert (config["recipe"], config["optimizer"]) == ("", "Adam")
    assert config["recipe_choice"].startswith(
        "keep would be chosen, since replay_data says what must stay, but: recipe"
    )


def test_a_run_that_resumes_takes_the_recipe_of_the_earlier_one() -> None:
    config = sent("few", resume_from="earlier")
    assert config["recipe"] == "keep"
    assert config["recipe_choice"] == "as of the run earlier, which it resumes"


def test_images_have_no_recipe() -> None:
    config = finetuner.fit("resnet-base", "many").config
    assert (config["recipe"], config["recipe_choice"]) == ("", "")
