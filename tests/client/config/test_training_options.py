"""Training options: allowed and refused values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetuner.config.callbacks import BestModelCheckpoint, EarlyStopping, callback_config
from finetuner.config.run_config import RunConfig
from finetuner.config.training_options import TrainingOptions
from finetuner.exceptions import InvalidInput
from finetuner.models.backbones import find_backbone

GIVEN: dict[str, Any] = {
    "micro_batch_size": 8, "num_processes": 2, "compile": True, "gradient_checkpointing": True, "lora_rank": 8,
    "lora_alpha": 4.0, "lora_plus_ratio": 2.0, "ema_decay": 0.99, "frozen": ["text"],
    "crop_scale": [0.5, 1.0], "flips": True, "distillation": 0.5, "l2_sp": 2.0,
    "learning_rates": {"vision": 1e-5, "projection": 1.0}, "hard_batches": 4, "hard_batches_from": 1,
    "captions_per_image": 2, "lora_kind": "rslora", "patch_dropout": 0.5,
    "near_duplicates": {"images": 0.9, "captions": None, "soft": 0.5},
    "hard_negatives": {"per_image": 2, "range": [3, 50], "relative_margin": 0.9, "every": 4},
}  # fmt: skip


def test_options_survive_json_and_defaults_are_left_out() -> None:
    row, given = find_backbone("clip-mini"), {name: value for name, value in GIVEN.items() if name != "l2_sp"}
    options = TrainingOptions.read(json.loads(json.dumps(given)), row)
    assert options.changed() == given
    assert TrainingOptions.read(options.changed(), row) == options
    assert TrainingOptions().changed() == {}


@pytest.mark.parametrize("name", sorted({*GIVEN} - {"lora_alpha", "lora_plus_ratio", "lora_kind", "hard_batches_from"}))
def test_a_run_takes_every_option(name: str) -> None:
    config = RunConfig(model="clip-mini", train_data="data", training_options={name: GIVEN[name]})
    assert config.training_options == {name: GIVEN[name]}
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))).options == config.options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora_rnk": 8}, "keys of .*lora_rank"),
        ([8], "must be a mapping"),
        ({"micro_batch_size": 0}, "micro_batch_size must be a whole number in \\[1, 65536\\]. Got 0"),
        ({"num_processes": 65}, "num_processes must be"),
        ({"compile": 1}, "compile must be True or False"),
        ({"lora_rank": 0}, "lora_rank must be a whole number in \\[1, 1024\\]"),
        ({"lora_rank": 8, "lora_alpha": 0}, "lora_alpha must be a number"),
        ({"lora_alpha": 8}, "lora_alpha needs lora_rank. Got 8 alone"),
        ({"lora_rank": 8, "lora_plus_ratio": 0}, "lora_plus_ratio must be a number in \\[0.01, 1000\\]. Got 0"),
        (
            {"lora_rank": 8, "lora_kind": "Dora"},
            "lora_kind must be one of lora, rslora, dora. Got 'Dora'. Did you mean",
        ),
        ({"lora_kind": "dora"}, "lora_kind needs lora_rank. Got 'dora' alone"),
        ({"patch_dropout": 1}, "patch_dropout must be a number in \\[0, 0.9\\]. Got 1"),
        (
            {"patch_dropout": 0.5, "frozen": ["vision"]},
            "patch_dropout must be left out where the vision tower is frozen",
        ),
        ({"lora_plus_ratio": 4}, "lora_plus_ratio needs lora_rank. Got 4 alone"),
        ({"ema_decay": 1}, "ema_decay must be a number in \\[0, 0.999999\\]. Got 1"),
        ({"ema_decay": float("nan")}, "ema_decay must be a number"),
        ({"frozen": "text"}, "frozen must be a list. Got 'text'"),
        ({"frozen": [1]}, "frozen must be a string"),
        ({"frozen": [""]}, "the prefix of every name"),
        ({"frozen": ["vision", "text"]}, "frozen must leave a tower to train"),
        ({"distillation": -1}, "distillation must be a number in \\[0, 100\\]. Got -1"),
        ({"distillation": 101}, "distillation must be a number in"),
        ({"l2_sp": float("inf")}, "l2_sp must be a number in"),
        ({"l2_sp": 1, "lora_rank": 4}, "l2_sp must be left out beside lora_rank. Got 1: .*weight_decay"),
        (
            {"learning_rates": 0.1},
            "learning_rates must be a mapping with keys of text, vision, logit_scale, projection",
        ),
        ({"learning_rates": {"image": 0.1}}, "keys of text, vision, logit_scale, projection. Got image"),
        ({"learning_rates": {"text": 0}}, "learning_rates\\['text'\\] must be above 0, .*frozen. Got 0"),
        ({"learning_rates": {"text": -0.1}}, "learning_rates\\['text'\\] must be a number in .*Got -0.1"),
        ({"learning_rates": {"text": 1.1}}, "learning_rates\\['text'\\] must be a number in"),
        ({"learning_rates": {"text": 0.1}, "frozen": ["text"]}, "of a part that is not frozen. Got 0.1 and frozen="),
        ({"crop_scale": [1.0, 0.5]}, "Swap them"),
        ({"crop_scale": [0.5]}, "must be two numbers"),
        ({"crop_scale": [0, 1]}, "crop_scale must be a number in"),
        ({"captions_per_image": 9}, "captions_per_image must be a whole number in \\[1, 8\\]. Got 9"),
        ({"hard_batches": 1}, "hard_batches must be a whole number in \\[2, 64\\]. Got 1"),
        ({"hard_batches": 4, "hard_batches_from": 0}, "hard_batches_from must be a whole number in"),
        ({"hard_batches_from": 1}, "hard_batches_from needs hard_batches. Got 1 alone"),
    ],
)
def test_wrong_options_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"training_options.*{message}"):
        RunConfig(model="clip-mini", train_data="data", training_options=given)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 4}, "hard_batches must be at most batch_size, 4. Got 8. Lower it"),
        ({"epochs": 1}, "must begin by the last epoch, 1. Got hard_batches_from=2. Lower it, or raise epochs"),
    ],
)
def test_hard_batches_that_a_run_would_never_see_are_refused(fields: dict[str, Any], message: str) -> None:
    given = {"model": "clip-mini", "train_data": "data", "training_options": {"hard_batches": 8}}
    assert RunConfig(**given, batch_size=8, epochs=2).options.hard_batches == 8
    with pytest.raises(InvalidInput, match=message):
        RunConfig(**given, **fields)


def test_hard_batches_are_for_a_clip() -> None:
    with pytest.raises(InvalidInput, match=r"hard_batches is for a CLIP. Got 4 for resnet-base. Use a miner."):
        TrainingOptions.read({"hard_batches": 4}, find_backbone("resnet50"))


def test_frozen_towers_are_for_a_clip() -> None:
    with pytest.raises(InvalidInput, match=r"frozen is for a CLIP.*Use freeze=True"):
        TrainingOptions.read({"frozen": ["text"]}, find_backbone("resnet50"))


@pytest.mark.parametrize("name", ["distillation", "l2_sp"])
def test_what_keeps_the_initial_model_is_for_a_clip(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is for a CLIP. Got 1 for resnet.*Leave it out"):
        TrainingOptions.read({name: 1}, find_backbone("resnet50"))


def test_no_rates_are_the_default() -> None:
    assert TrainingOptions(learning_rates={}) == TrainingOptions()


def test_an_average_and_a_best_epoch_contradict_each_other() -> None:
    given: dict[str, Any] = {"model": "clip-mini", "train_data": "data", "training_options": {"ema_decay": 0.9}}
    best, patience = (callback_config(kind("loss"), {}) for kind in (BestModelCheckpoint, EarlyStopping))
    assert RunConfig(**given, callbacks=[patience]).options.ema_decay == 0.9
    with pytest.raises(InvalidInput, match="ema_decay must be left out beside BestModelCheckpoint"):
        RunConfig(**given, callbacks=[best])


def test_a_frozen_backbone_takes_no_adapters() -> None:
    given: dict[str, Any] = {"model": "resnet50", "train_data": "data", "loss": "TripletMarginLoss", "output_dim": 8}
    assert RunConfig(**given, training_options={"lora_rank": 4}).options.lora_rank == 4
    with pytest.raises(InvalidInput, match="lora_rank must be left out beside freeze=True. Got 4"):
        RunConfig(**given, freeze=True, training_options={"lora_rank": 4})
