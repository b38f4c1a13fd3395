"""Recipes: what each row fills in, what the caller keeps, and what contradicts a row."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from finetuner.config.callbacks import EarlyStopping, WiSEFTCallback, callback_config
from finetuner.config.recipes import DEFAULT_OPTIMIZER, RECIPES, TABLE, list_recipes, with_recipe
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.models.backbones import find_backbone
from finetuner.models.rows import PARTS

NAMES = ("default", "keep", "small-data", "large-data", "locked-image", "cold-start")
LARGE = "ViT-B-32::openai"


def resolved(recipe: str | None, model: str = "clip-mini", **given: Any) -> RunConfig:
    """The configuration that `fit` would send."""
    start = {"model_artifact": "0" * 24} if model == PARTS.name else {}
    fields = with_recipe(recipe, {"optimizer": DEFAULT_OPTIMIZER, **given}, find_backbone(model))
    return RunConfig(model=model, train_data="pairs", **start, **fields)


def any_model(recipe: str) -> str:
    return list_recipes()[recipe].backbone or "clip-mini"


def test_the_rows_are_these() -> None:
    assert tuple(list_recipes()) == NAMES == tuple(row.name for row in RECIPES)
    assert [row["recipe"] for row in TABLE] == [f"`{name}`" for name in NAMES]
    assert all(row.purpose and row.source for row in RECIPES)
    list_recipes().clear()
    with pytest.raises(FrozenInstanceError):
        RECIPES[0].rate_factor = 3.0  # type: ignore[misc]


def test_no_recipe_changes_nothing() -> None:
    assert resolved(None) == RunConfig(model="clip-mini", train_data="pairs")
    given: dict[str, Any] = {"optimizer_options": {"eps": 1e-3}, "learning_rate": 1e-4, "scheduler": "linear"}
    assert resolved(None, **given) == RunConfig(model="clip-mini", train_data="pairs", **given)
    assert type(resolved(None).optimizer) is str
    assert (DEFAULT_OPTIMIZER, repr(DEFAULT_OPTIMIZER)) == ("Adam", "'Adam'")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_a_run_that_reaches_the_trainer_as_it_is(name: str) -> None:
    config = resolved(name, any_model(name))
    assert (config.recipe, config.optimizer, config.scheduler) == (name, "AdamW", "cosine")
    assert config.optimizer_options == {"weight_decay": 0.2}
    assert RunConfig.from_dict(config.to_dict()) == config
    assert config.options == RunConfig.from_dict(config.to_dict()).options


@pytest.mark.parametrize(
    ("name", "model", "rate"),
    [
        ("default", LARGE, 1e-6),
        ("default", "clip-mini", 2e-3),
        ("keep", "clip-mini", 2e-3),
        ("large-data", LARGE, 1e-5),
        ("small-data", LARGE, 1e-4),
        ("small-data", "clip-mini", 1e-3),
        ("cold-start", PARTS.name, 5e-5),
    ],
)
def test_the_rate_is_a_multiple_of_the_models_own(name: str, model: str, rate: float) -> None:
    assert resolved(name, model).learning_rate == rate


def test_keep_distils_and_mixes() -> None:
    config = resolved("keep")
    assert config.options.distillation == 1.0
    assert [entry["name"] for entry in config.callbacks] == ["WiSEFTCallback"]
    assert config.callbacks[0]["options"] == {"alpha": 0.8, "alphas": None}
    swept = resolved("keep", eval_data="test")
    assert swept.callbacks[0]["options"]["alphas"] == [0.2, 0.4, 0.6, 0.8]


def test_the_others_stand_for_their_option() -> None:
    assert resolved("small-data").options.lora_rank == 8
    assert resolved("locked-image").options.frozen == ("vision",)
    assert resolved("cold-start", PARTS.name).options.learning_rates == {"projection": 1e-3}
    assert resolved("default").training_options == {"captions_per_image": 2}
    assert resolved("large-data").training_options == {}


def test_what_the_caller_gives_is_kept() -> None:
    mix, patience = WiSEFTCallback(0.5), EarlyStopping("loss")
    config = resolved(
        "keep",
        optimizer_options={"eps": 1e-4},
        learning_rate=3e-4,
        scheduler="linear",
        scheduler_options={"num_warmup_steps": 3},
        training_options={"distillation": 2.0, "flips": True},
        callbacks=[callback_config(patience, {}), callback_config(mix, {})],
    )
    assert config.optimizer_options == {"weight_decay": 0.2, "eps": 1e-4}
    assert (config.learning_rate, config.scheduler, config.scheduler_options) == (
        3e-4,
        "linear",
        {"num_warmup_steps": 3},
    )
    assert config.training_options == {"captions_per_image": 2, "distillation": 2.0, "flips": True}
    assert [entry["options"].get("alpha") for entry in config.callbacks] == [None, 0.5]
    added = resolved("keep", callbacks=[callback_config(patience, {})]).callbacks
    assert [entry["name"] for entry in added] == ["EarlyStopping", "WiSEFTCallback"]


def test_an_explicit_optimizer_is_kept_without_the_recipes_options() -> None:
    config = resolved("default", optimizer="Adam")
    assert (config.optimizer, config.optimizer_options) == ("Adam", {})
    assert resolved("default", optimizer="AdamW", optimizer_options={"weight_decay": 0}).optimizer_options == {
        "weight_decay": 0.0
    }
    with pytest.raises(InvalidInput, match="optimizer must be one of"):
        resolved("default", optimizer=None)


def test_rates_of_parts_stand_beside_those_of_the_recipe() -> None:
    given = {"learning_rates": {"text": 1e-5}}
    rates = resolved("cold-start", PARTS.name, training_options=given).options.learning_rates
    assert rates == {"projection": 1e-3, "text": 1e-5}
    assert given == {"learning_rates": {"text": 1e-5}}
    assert list_recipes()["cold-start"].training_options == {"learning_rates": {"projection": 1e-3}}


def test_adapters_in_another_recipe_have_their_own_rule_for_the_rate() -> None:
    assert resolved("default", LARGE, training_options={"lora_rank": 4}).learning_rate is None


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("keep", {"distillation": 0}, r"recipe 'keep' needs training_options\['distillation'\].*Got 0"),
        ("small-data", {"lora_rank": None}, r"recipe 'small-data' needs training_options\['lora_rank'\].*Got None"),
        ("locked-image", {"frozen": ["text"]}, r"recipe 'locked-image' needs .*'frozen'.*Got \['text'\]"),
        ("locked-image", {"frozen": []}, r"recipe 'locked-image' needs .*'frozen'.*Got \[\]"),
        ("locked-image", {"learning_rates": {"vision": 1e-4}}, "recipe 'locked-image' sets .*contradict.*not frozen"),
        ("small-data", {"l2_sp": 1}, "recipe 'small-data' sets .*contradict.*l2_sp must be left out beside lora_rank"),
        ("keep", {"distilation": 1}, "training_options must have keys of"),
        ("keep", ["distillation"], "training_options must be a mapping"),
    ],
)
def test_an_option_that_contradicts_the_recipe_is_refused(name: str, given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        resolved(name, training_options=given)


def test_a_recipe_for_another_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="recipe 'cold-start' is for a CLIP of two towers.*Got clip-mini"):
        resolved("cold-start")
    with pytest.raises(InvalidInput, match="recipe must be left out for resnet-base: recipes are for a CLIP"):
        resolved("default", "resnet-base")


@pytest.mark.parametrize("name", ["kep", "", 3, True])
def test_an_unknown_recipe_is_refused_with_the_list(name: Any) -> None:
    with pytest.raises(InvalidInput, match="recipe must be one of default, keep, small-data, .*Got"):
        resolved(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "kep"}, "recipe must be one of default, keep"),
        ({"recipe": 3}, "recipe must be a string. Got 3"),
        ({"recipe": "keep"}, r"recipe 'keep' needs training_options\['distillation'\]"),
        ({"recipe": "keep", "training_options": {"distillation": 1}}, "recipe 'keep' needs a WiSEFTCallback. Got none"),
    ],
)
def test_a_configuration_with_a_name_and_other_options_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RunConfig(model="clip-mini", train_data="pairs", **fields)
