"""Callbacks: the fields and defaults of Finetuner 0.8.1, refused values, and the form that a RunConfig holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import MISSING, asdict, fields
from typing import Any

import pytest
from docarray import Document, DocumentArray

from finetuner.config.callbacks import (
    EarlyStopping,
    EvaluationCallback,
    MLflowLogger,
    TensorBoardLogger,
    WandBLogger,
    WiSEFTCallback,
    callback_config,
    callback_data,
    list_callbacks,
)
from finetuner.exceptions import InvalidInput

# COMPAT.md section 1, in its order
COMPAT: dict[str, dict[str, Any]] = {
    "EvaluationCallback": {
        "query_data": MISSING, "index_data": None, "model": None, "index_model": None, "multi_modal": False,
        "batch_size": 32, "exclude_self": True, "limit": 20, "distance": "cosine", "steps_per_interval": None,
        "gather_examples": False, "num_example_queries": 5, "num_workers": 8, "caption": None,
        "output_model_names": False, "query_sample_size": None,
    },
    "BestModelCheckpoint": {"monitor": "val_loss", "mode": "auto"},
    "EarlyStopping": {"monitor": "val_loss", "mode": "auto", "patience": 2, "min_delta": 0, "baseline": None},
    "TrainingCheckpoint": {"last_k_epochs": 1},
    "WandBLogger": {"metrics_logger_step": "epoch", "wandb_args": None, "log_zero_shot": True},
    "WiSEFTCallback": {"alpha": 0.4},
}  # fmt: skip
OURS: dict[str, dict[str, Any]] = {
    "WiSEFTCallback": {"alpha": 0.4, "alphas": None},  # the old field first
    "MLflowLogger": {"metrics_logger_step": "epoch", "mlflow_args": None, "log_zero_shot": True},
    "TensorBoardLogger": {"metrics_logger_step": "epoch", "log_zero_shot": True},
}


def test_names_fields_and_defaults_are_those_of_the_old_package() -> None:
    found = {name: [(field.name, field.default) for field in fields(kind)] for name, kind in list_callbacks().items()}
    assert found == {name: list(expected.items()) for name, expected in (COMPAT | OURS).items()}


def test_the_list_is_a_copy() -> None:
    list_callbacks().clear()
    assert len(list_callbacks()) == 8


def test_positional_forms() -> None:
    documents = DocumentArray([Document(text="a")])
    assert EvaluationCallback(documents).query_data is documents
    callback = EvaluationCallback("queries", "index", "clip-text", "clip-vision", True, 64)
    assert (callback.model, callback.index_model) == ("clip-text", "clip-vision")
    assert (callback.multi_modal, callback.batch_size) == (True, 64)
    assert WiSEFTCallback(0.5).alpha == 0.5
    assert EarlyStopping("loss", "min", 3) == EarlyStopping(monitor="loss", mode="min", patience=3)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("WiSEFTCallback", {"alpha": 1.1}, r"alpha must be a number in \[0, 1\]. Got 1.1"),
        ("WiSEFTCallback", {"alpha": -0.1}, "alpha must be .* Got -0.1"),
        ("WiSEFTCallback", {"alpha": "0.4"}, "alpha must be a number.* Got '0.4'"),
        ("WiSEFTCallback", {"alpha": float("nan")}, "Got nan"),
        ("EvaluationCallback", {"limit": 0}, r"limit must be a whole number in \[1, 1000\]. Got 0"),
        ("EvaluationCallback", {"batch_size": 0}, "batch_size must be"),
        ("EvaluationCallback", {"num_workers": -1}, "num_workers must be"),
        ("EvaluationCallback", {"num_example_queries": 0}, "num_example_queries must be"),
        ("EvaluationCallback", {"steps_per_interval": 0}, "steps_per_interval must be"),
        ("EvaluationCallback", {"query_sample_size": 0}, "query_sample_size must be"),
        ("EvaluationCallback", {"distance": "cosin"}, "distance must be one of .* Did you mean 'cosine'"),
        ("EvaluationCallback", {"model": 5}, "model must be a string. Got 5"),
        ("EvaluationCallback", {"caption": " "}, "caption must have 1 to 64 characters"),
        ("EvaluationCallback", {"caption": 5}, "caption must be a string"),
        ("EvaluationCallback", {"exclude_self": "yes"}, "exclude_self must be True or False. Got 'yes'"),
        ("EvaluationCallback", {"gather_examples": 1}, "gather_examples must be True or False"),
        ("BestModelCheckpoint", {"mode": "minimum"}, "mode must be one of auto, min, max"),
        ("BestModelCheckpoint", {"monitor": None}, "monitor must be a string"),
        ("EarlyStopping", {"patience": -1}, "patience must be"),
        ("EarlyStopping", {"min_delta": -0.1}, "min_delta must be"),
        ("EarlyStopping", {"baseline": "best"}, "baseline must be a number"),
        ("TrainingCheckpoint", {"last_k_epochs": 0}, "last_k_epochs must be"),
        ("WandBLogger", {"metrics_logger_step": "step"}, "metrics_logger_step must be one of epoch, batch. Got 'step'"),
        ("WandBLogger", {"log_zero_shot": 1}, "log_zero_shot must be True or False"),
        ("WandBLogger", {"wandb_args": ["shop"]}, "wandb_args must be a mapping with keys of project, name"),
        ("WandBLogger", {"wandb_args": {"dir": "/etc"}}, "wandb_args must have keys of project, .* Got dir. Leave"),
        ("WandBLogger", {"wandb_args": {"settings": {}, "save_code": True}}, "Got save_code, settings. Leave them out"),
        ("WandBLogger", {"wandb_args": {"id": "../x", "config": "/etc/passwd"}}, "Got config, id. Leave them out"),
        ("WandBLogger", {"wandb_args": {"mode": "shared"}}, "mode'] must be one of online, offline, disabled"),
        ("WandBLogger", {"wandb_args": {"project": 5}}, "project'] must be a string. Got 5"),
        ("WandBLogger", {"wandb_args": {"name": "x" * 129}}, "name'] must have 1 to 128 characters"),
        ("WandBLogger", {"wandb_args": {"tags": "shop"}}, "tags'] must hold at most 32 texts. Got 'shop'"),
        ("WandBLogger", {"wandb_args": {"tags": [""]}}, "tags'] must have 1 to 64 characters"),
        ("MLflowLogger", {"metrics_logger_step": "steps"}, "metrics_logger_step must be one of"),
        ("MLflowLogger", {"log_zero_shot": None}, "log_zero_shot must be"),
        (
            "MLflowLogger",
            {"mlflow_args": {"tracking_uri": "http://x"}},
            "mlflow_args must have keys of experiment_name",
        ),
        ("MLflowLogger", {"mlflow_args": {"experiment_name": "a' OR ''='"}}, "paths are not names"),
        ("MLflowLogger", {"mlflow_args": {"tags": ["a"]}}, "tags'] must be a mapping"),
        ("MLflowLogger", {"mlflow_args": {"tags": {"../a": "b"}}}, "tag must be 1 to 128 letters"),
        ("MLflowLogger", {"mlflow_args": {"tags": {"a": 5}}}, "'a'] must be a string. Got 5"),
        ("TensorBoardLogger", {"metrics_logger_step": None}, "metrics_logger_step must be one of"),
        ("TensorBoardLogger", {"log_zero_shot": "no"}, "log_zero_shot must be"),
    ],
)
def test_the_error_names_the_wrong_value_and_the_allowed_ones(name: str, values: dict[str, Any], message: str) -> None:
    if name == "EvaluationCallback":
        values = {"query_data": "queries", **values}
    with pytest.raises(InvalidInput, match=message):
        list_callbacks()[name](**values)


def test_data_and_dataset_names_become_options() -> None:
    documents = DocumentArray([Document(text="a")])
    callback = EvaluationCallback(documents, "index", limit=3)
    assert callback_data(callback) == {"query_data": documents, "index_data": "index"}
    assert callback_data(EvaluationCallback("queries")) == {"query_data": "queries"}
    assert callback_data(WiSEFTCallback()) == {}

    wire = callback_config(callback, {"query_data": "pushed"})
    assert wire["name"] == "EvaluationCallback"
    assert wire["options"] == asdict(EvaluationCallback("pushed", "index", limit=3))
    assert json.loads(json.dumps(wire)) == wire
    assert callback_config(EarlyStopping(patience=3), {})["options"]["patience"] == 3


@pytest.mark.parametrize("value", ["EarlyStopping", None, EarlyStopping, {"name": "EarlyStopping"}], ids=str)
def test_other_objects_are_refused(value: Any) -> None:
    for function in (callback_data, lambda callback: callback_config(callback, {})):
        with pytest.raises(InvalidInput, match="callbacks must be objects of BestModelCheckpoint, .*. Got"):
            function(value)


@pytest.mark.process
def test_importing_callbacks_is_light() -> None:
    heavy = ("torch", "jina", "docarray", "accelerate", "wandb", "mlflow", "tensorboard")
    check = f"import sys, finetuner, finetuner.callback; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["key", "api_key"])
def test_a_wandb_key_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(InvalidInput, match="Set WANDB_API_KEY in the trainer's environment") as refusal:
        WandBLogger(wandb_args={name: "0123secret"})
    assert "secret" not in str(refusal.value)


def test_loggers_keep_their_arguments() -> None:
    tags = {"project": "shop", "tags": ("a", "b"), "mode": "offline"}
    assert WandBLogger("batch", tags, False).wandb_args == {"project": "shop", "tags": ["a", "b"], "mode": "offline"}
    args = {"experiment_name": "shop", "tags": {"season": "winter"}}
    assert MLflowLogger("batch", args).mlflow_args == args
    assert TensorBoardLogger("batch", False) == TensorBoardLogger(metrics_logger_step="batch", log_zero_shot=False)
