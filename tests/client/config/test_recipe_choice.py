"""The recipe that is chosen by model, pairs and steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetuner.config.recipe_choice import FEW_PAIRS, FEW_STEPS, MANY_PAIRS, choose_recipe, early_choice
from finetuner.config.recipes import DEFAULT_OPTIMIZER, list_recipes
from finetuner.models.backbones import find_backbone
from finetuner.models.rows import PARTS

SMALL, LARGE = find_backbone("clip-mini"), find_backbone("ViT-B-32::openai")


@pytest.mark.parametrize(
    ("row", "pairs", "epochs", "recipe", "reason"),
    [
        (LARGE, FEW_PAIRS, 5, "small-data", "2000 pairs are at most 2000, and the model is a large pretrained one"),
        (LARGE, FEW_PAIRS + 1, 5, None, "2001 pairs make 80 steps, and up to 160 steps a constant learning rate"),
        (LARGE, FEW_PAIRS + 1, 11, "default", "2001 pairs make 176 steps, more than 160"),
        (LARGE, MANY_PAIRS + 1, 1, "large-data", "100001 pairs are more than 100000"),
        (SMALL, 100, 5, None, "100 pairs make 5 steps"),
        (SMALL, 3000, 8, "default", "3000 pairs make 192 steps"),
        (SMALL, 128 * FEW_STEPS, 1, None, "make 160 steps"),
        (SMALL, 128 * FEW_STEPS + 1, 1, "default", "make 161 steps"),
    ],
)
def test_the_choice_by_model_pairs_and_steps(row: Any, pairs: int, epochs: int, recipe: Any, reason: str) -> None:
    choice = choose_recipe(row, pairs, 128, epochs)
    assert choice.recipe == recipe
    assert reason in choice.reason
    assert recipe is None or recipe in list_recipes()


def test_pairs_that_are_held_out_make_no_steps_and_the_backbone_has_a_batch_size() -> None:
    assert choose_recipe(SMALL, 6000, 128, 8, val_split=0.5) == choose_recipe(SMALL, 3000, None, 8)
    assert choose_recipe(replace(SMALL, batch_size=1), 200, None, 1).recipe == "default"


@pytest.mark.parametrize(
    ("given", "recipe", "reason"),
    [
        ({"optimizer": "Adam"}, None, "the call sets optimizer"),
        ({"optimizer_options": {"eps": 1e-8}, "learning_rate": 1e-5}, None, "sets optimizer_options, learning_rate"),
        ({"scheduler": "constant"}, None, "the call sets scheduler"),
        ({"replay_data": "photos"}, "keep", "replay_data says what must stay"),
        ({"training_options": {"frozen": ["vision"]}}, "locked-image", "the vision tower is frozen"),
    ],
)
def test_what_the_call_says_comes_first(given: dict[str, Any], recipe: str | None, reason: str) -> None:
    choice = early_choice({"optimizer": DEFAULT_OPTIMIZER, "optimizer_options": None, **given}, SMALL)
    assert choice is not None
    assert choice.recipe == recipe
    assert reason in choice.reason


def test_the_model_may_decide_before_the_data() -> None:
    nothing = {"optimizer": DEFAULT_OPTIMIZER, "training_options": {"frozen": ["text"]}}
    assert early_choice(nothing, SMALL) is None
    for row, recipe in ((PARTS, "cold-start"), (find_backbone("resnet50"), None)):
        choice = early_choice(nothing, row)
        assert choice is not None
        assert choice.recipe == recipe
