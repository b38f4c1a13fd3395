"""The callbacks of a run's configuration: refused values and the names of their metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from finetuner.config.callbacks import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    MLflowLogger,
    TensorBoardLogger,
    TrainingCheckpoint,
    WandBLogger,
    WiSEFTCallback,
    callback_config,
)
from finetuner.config.run_callbacks import callback_datasets, metric_prefixes, read_callbacks, search_towers
from finetuner.config.run_config import RunConfig
from finetuner.evaluation.pairs import PREFIX
from finetuner.exceptions import InvalidInput
from finetuner.models.clip import TOWERS

GOOD: dict[str, Any] = {"model": "clip-mini", "train_data": "pairs"}
SEED = EvaluationCallback("query", "index", model="clip-text", index_model="clip-vision")


def entries(*callbacks: Callback) -> list[dict[str, Any]]:
    return [callback_config(callback, {}) for callback in callbacks]


ALL = entries(
    SEED,
    EvaluationCallback("pairs", limit=5, caption="pairs", gather_examples=True, steps_per_interval=10),
    BestModelCheckpoint("clip-text-to-clip-vision_reciprocal_rank"),
    EarlyStopping(patience=3, min_delta=0.01, baseline=5),
    TrainingCheckpoint(2),
    WandBLogger("batch", {"project": "shop", "tags": ["a", "b"]}),
    MLflowLogger(mlflow_args={"tags": {"a": "b"}}, log_zero_shot=False),
    TensorBoardLogger(),
    WiSEFTCallback(0.25),
)


def test_json_and_protobuf_round_trips() -> None:
    config = RunConfig.from_dict(GOOD | {"callbacks": ALL, "val_split": 0.1})
    assert read_callbacks(config.callbacks) == read_callbacks(ALL)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    struct = Struct()
    struct.update(config.to_dict())  # as in a request of Jina: every number is a float
    again = RunConfig.from_dict(MessageToDict(struct))
    assert again == config
    assert type(again.callbacks[0]["options"]["limit"]) is int


def test_options_that_are_left_out_have_their_defaults() -> None:
    config = RunConfig.from_dict(GOOD | {"callbacks": [{"name": "TrainingCheckpoint"}, {"name": "WiSEFTCallback"}]})
    assert list(config.callbacks) == entries(TrainingCheckpoint(), WiSEFTCallback())
    assert list(RunConfig.from_dict(GOOD).callbacks) == []


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ("EarlyStopping", "callbacks must be a list of .* Got 'EarlyStopping'"),
        (None, "callbacks must be a list"),
        (["EarlyStopping"], "callbacks must hold entries .* Got 'EarlyStopping'"),
        ([{"options": {}}], "callbacks must hold entries"),
        ([{"name": "EarlyStopping", "option": {}}], "callbacks must hold entries"),
        ([{"name": "EarlyStoping"}], "callback must be one of .* Did you mean 'EarlyStopping'"),
        ([{"name": ["EarlyStopping"]}], "callback must be one of"),
        (
            [{"name": "EarlyStopping", "options": {"patienc": 2}}],
            "options of EarlyStopping must have keys of monitor, ",
        ),
        ([{"name": "EarlyStopping", "options": [2]}], "options of EarlyStopping must be a mapping"),
        ([{"name": "EarlyStopping", "options": {"patience": "2"}}], "EarlyStopping: patience must be a whole number"),
        ([{"name": "WiSEFTCallback", "options": {"alpha": 2}}], "WiSEFTCallback: alpha must be"),
        ([{"name": "EvaluationCallback"}], "EvaluationCallback must have query_data, the name of a dataset. Got none"),
        ([{"name": "EvaluationCallback", "options": {"query_data": 5}}], "query_data must be 1 to 128 letters"),
        ([{"name": "EvaluationCallback", "options": {"query_data": "../x"}}], "query_data must be 1 to 128 letters"),
        (entries(WandBLogger(), WandBLogger()), "must hold WandBLogger at most once. Got 2"),
        (
            [{"name": "WandBLogger", "options": {"wandb_args": {"dir": "/"}}}],
            "WandBLogger: wandb_args must have keys of project, .* Got dir. Leave them out",
        ),
        (entries(WiSEFTCallback(), WiSEFTCallback()), "must hold WiSEFTCallback at most once. Got 2"),
    ],
)
def test_a_wrong_callback_is_refused(callbacks: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RunConfig.from_dict(GOOD | {"callbacks": callbacks})


@pytest.mark.parametrize("kind", [BestModelCheckpoint, EarlyStopping])
def test_a_monitor_that_is_never_reported_is_refused_with_the_next_step(
    kind: type[BestModelCheckpoint] | type[EarlyStopping],
) -> None:
    name = kind.__name__
    with pytest.raises(
        InvalidInput,
        match=rf"{name} must monitor a value that the run reports. .*Pass eval_data, set val_split, .*val_split=0\.1",
    ):
        RunConfig.from_dict(GOOD | {"callbacks": entries(kind())})
    RunConfig.from_dict(GOOD | {"callbacks": entries(kind()), "val_split": 0.1})
    for model, loss in (("clip-mini", "CLIPLoss"), ("resnet50", "TripletMarginLoss")):
        RunConfig(model=model, train_data="data", eval_data="other", loss=loss, callbacks=entries(kind()))
    for monitor in ("loss", "train_loss"):
        RunConfig.from_dict(GOOD | {"callbacks": entries(kind(monitor))})
    metric = "clip-text-to-clip-vision_hit_at_k"
    with pytest.raises(InvalidInput, match=f"{name}: monitor must be one of loss, .*Metrics come from an Eval"):
        RunConfig.from_dict(GOOD | {"callbacks": entries(kind(metric))})
    with pytest.raises(InvalidInput, match=f"Did you mean '{metric}'"):
        RunConfig.from_dict(GOOD | {"callbacks": entries(SEED, kind(metric.replace("hit", "hits")))})
    RunConfig.from_dict(GOOD | {"callbacks": entries(kind(metric), SEED)})


@pytest.mark.parametrize(
    ("callbacks", "eval_data", "expected"),
    [
        ([SEED], False, [PREFIX]),
        ([EvaluationCallback("pairs")], False, [PREFIX]),
        ([EvaluationCallback("images", model="clip-vision")], True, ["clip-vision_"]),
        ([SEED, WiSEFTCallback(), SEED, SEED], False, [PREFIX, f"2_{PREFIX}", f"3_{PREFIX}"]),
        ([SEED], True, [f"2_{PREFIX}"]),
        ([EvaluationCallback("q", caption="de"), EvaluationCallback("q", caption="en")], False, ["de_", "en_"]),
        ([EvaluationCallback("q", caption="de"), EvaluationCallback("q", caption="de")], False, ["de_", "2_de_"]),
        (
            [EvaluationCallback("q", caption="de", output_model_names=True)],
            False,
            [f"de_{PREFIX}"],
        ),
    ],
)
def test_metrics_names_tell_callbacks_apart(callbacks: list[Callback], eval_data: bool, expected: list[str]) -> None:
    assert metric_prefixes(callbacks, TOWERS, has_eval_data=eval_data) == expected


@pytest.mark.parametrize(
    ("models", "towers"),
    [
        ({}, ("clip-text", "clip-vision")),
        ({"model": "clip-text", "index_model": "clip-vision", "multi_modal": True}, ("clip-text", "clip-vision")),
        ({"model": "clip-vision", "index_model": "clip-text"}, ("clip-vision", "clip-text")),
        ({"model": "clip-vision"}, ("clip-vision", "clip-vision")),
        ({"index_model": "clip-text"}, ("clip-text", "clip-text")),
    ],
    ids=str,
)
def test_the_towers_of_both_sides(models: dict[str, Any], towers: tuple[str, str]) -> None:
    assert search_towers(EvaluationCallback("queries", **models), TOWERS) == towers


def test_a_model_of_images_searches_images_and_names_its_metrics() -> None:
    callback = EvaluationCallback("queries", "index", limit=3)
    assert search_towers(callback, ("resnet50",)) == ("resnet50", "resnet50")
    assert metric_prefixes([callback], ("resnet50",), has_eval_data=False) == ["resnet50_"]
    assert metric_prefixes([callback], ("resnet50",), has_eval_data=True) == ["2_resnet50_"]
    with pytest.raises(InvalidInput, match="model must be one of resnet50. Got 'clip-text'"):
        search_towers(EvaluationCallback("queries", model="clip-text"), ("resnet50",))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"model": "clip-txt"}, "model must be one of .* Did you mean 'clip-text'"),
        ({"index_model": "vision"}, "index_model must be one of clip-text, clip-vision. Got 'vision'"),
        ({"multi_modal": True, "model": "clip-text"}, "must come with two different models. Got clip-text for both"),
    ],
)
def test_models_that_a_clip_does_not_have_are_refused(models: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RunConfig.from_dict(GOOD | {"callbacks": entries(EvaluationCallback("queries", **models))})


def test_every_callback_keeps_its_own_data() -> None:
    callbacks = [EvaluationCallback("a", "b"), WiSEFTCallback(), EvaluationCallback("c")]
    assert callback_datasets(callbacks) == {"query_data_0": "a", "index_data_0": "b", "query_data_2": "c"}
