"""The fields of a run's configuration: allowed and refused values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from finetuner.config.losses import DEFAULT_LOSS
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput, NoSuchModel

GOOD: dict[str, Any] = {"model": "clip-mini", "train_data": "pairs"}
NAN, INF, HUGE = float("nan"), float("inf"), 10**400
NAME = "must be 1 to 128 letters, digits"

# field, wrong value, expectation in the error message
WRONG: list[tuple[str, Any, str]] = [
    ("model", 7, "must be a string"),
    ("model", None, "must be a string"),
    *(
        (name, value, NAME)
        for name in ("train_data", "experiment_name")
        for value in ("", "a b", "../x", "a/b", "ä", "-x")
    ),
    *((name, "a/b", NAME) for name in ("eval_data", "run_name", "model_artifact")),
    *((name, "x" * 129, NAME) for name in ("run_name", "train_data")),
    *((name, 5, "must be a string") for name in ("train_data", "eval_data", "run_name", "experiment_name")),
    ("description", ["x"], "must be a string"),
    ("loss", "TripletMarginLoss", "must be one of CLIPLoss"),
    ("loss", None, "must be one of CLIPLoss"),
    ("optimizer", "LBFGS", "must be one of ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW"),
    ("optimizer", ["Adam"], "must be one of ASGD"),
    ("scheduler", "one_cycle", "must be one of constant, "),
    ("device", "tpu", "must be one of cuda, gpu, cpu"),
    ("sampler", "class", "must be one of auto, random"),
    *(
        ("val_split", value, "must be a number in [0.0, 0.99]")
        for value in (-0.1, 1.0, NAN, INF, True, "0.1", None, HUGE)
    ),
    *(
        ("learning_rate", value, "must be a number in [1e-12, 1.0]")
        for value in (0, -1e-3, 1.5, NAN, INF, True, "1e-3", HUGE)
    ),
    *(
        ("epochs", value, "must be a whole number in [1, 10000]")
        for value in (0, -1, 10_001, 1.5, NAN, INF, True, "5", None, HUGE)
    ),
    *(("batch_size", value, "must be a whole number in [2, 65536]") for value in (1, 65_537, 2.5, NAN, False, "32")),
    *(("to_onnx", value, "must be True or False") for value in (1, "yes", None)),
    *(("num_workers", value, "must be a whole number in [0, 64]") for value in (-1, 65, 0.5, True, [])),
    *(("seed", value, "must be a whole number in [0, 4294967295]") for value in (-1, 2**32, 0.5, NAN, True, "0", HUGE)),
]


@pytest.mark.parametrize(("model", "loss"), [("clip-mini", "CLIPLoss"), ("resnet-base", "TripletMarginLoss")])
def test_the_default_loss_is_the_loss_of_the_task(model: str, loss: str) -> None:
    for config in (
        RunConfig(model, "data"),
        RunConfig(model, "data", loss=DEFAULT_LOSS),
        RunConfig.from_dict({"model": model, "train_data": "data"}),
    ):
        assert config.loss == config.to_dict()["loss"] == loss
        assert type(config.loss) is str


def test_an_explicit_loss_is_never_replaced() -> None:
    assert (DEFAULT_LOSS, repr(DEFAULT_LOSS)) == ("TripletMarginLoss", "'TripletMarginLoss'")
    with pytest.raises(InvalidInput, match="loss must be one of CLIPLoss, SigLIPLoss. Got 'TripletMarginLoss'. .* out"):
        RunConfig("clip-mini", "data", loss="TripletMarginLoss")
    with pytest.raises(InvalidInput, match="loss must be one of AngularLoss, .* Got 'CLIPLoss'"):
        RunConfig("resnet-base", "data", loss="CLIPLoss")


def test_int8_is_for_clip() -> None:
    assert RunConfig("clip-mini", train_data="data", to_onnx="int8").to_onnx == "int8"
    with pytest.raises(InvalidInput, match="to_onnx must be True or False for resnet-base. Got 'int8'"):
        RunConfig("resnet-base", train_data="data", loss="TripletMarginLoss", batch_size=32, to_onnx="int8")


@pytest.mark.parametrize(("field", "value", "expected"), WRONG, ids=lambda value: str(value)[:24])
def test_the_error_names_the_wrong_value_and_the_allowed_ones(field: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        RunConfig.from_dict(GOOD | {field: value})
    message = str(caught.value)
    assert message.startswith(f"{field} {expected}")
    assert f"Got {value!r}." in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (
            "optimizer_options",
            {"weight_decy": 0.1},
            "must have keys of weight_decay, eps, beta1, beta2, betas, .*. Got weight_decy",
        ),
        ("optimizer_options", {1: 0.1}, "Got 1"),
        ("optimizer_options", [0.1], r"must be a mapping with keys of weight_decay.*Got \[0.1\]"),
        ("optimizer_options", {"beta1": 1.0}, r"optimizer_options\['beta1'\] must be a number in .*Got 1.0"),
        ("optimizer_options", {"eps": True}, r"optimizer_options\['eps'\] must be a number.*Got True"),
        ("optimizer_options", {"eps": NAN}, "Got nan"),
        (
            "scheduler_options",
            {"warmup": 3},
            "must have keys of num_warmup_steps, num_training_steps, scheduler_step. Got warmup",
        ),
        ("scheduler_options", {"num_training_steps": 0}, r"must be a whole number in \[1, 1000000000\]. Got 0"),
        ("scheduler_options", {"num_warmup_steps": 1.5}, "Got 1.5"),
        ("scheduler_options", "auto", "must be a mapping.*Got 'auto'"),
        ("description", "x" * 2001, "must be at most 2000 characters. Got 2001"),
        ("learning_rates", 0.1, "must have fields of model, .*Got learning_rates"),
    ],
)
def test_the_error_names_the_wrong_option(field: str, value: Any, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        RunConfig.from_dict(GOOD | {"scheduler": "cosine"} | {field: value})


@pytest.mark.parametrize("values", [None, "model", 3.0, ["model"], {}, {"model": "clip-mini"}, {"train_data": "x"}])
def test_an_incomplete_configuration_is_refused(values: Any) -> None:
    with pytest.raises(InvalidInput, match="run config must"):
        RunConfig.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [("optimizer", "AdmW", "AdamW"), ("scheduler", "cosin", "cosine"), ("loss", "ClipLoss", "CLIPLoss")],
)
def test_the_nearest_name_is_offered(field: str, value: str, meant: str) -> None:
    with pytest.raises(InvalidInput, match=f"Did you mean {meant!r}"):
        RunConfig.from_dict(GOOD | {field: value})


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(NoSuchModel, match="Got 'clip-maxi'. Nearest: clip-mini"):
        RunConfig.from_dict(GOOD | {"model": "clip-maxi"})


@pytest.mark.parametrize("scheduler", [None, "constant"])
def test_options_of_a_scheduler_that_takes_none_are_refused(scheduler: str | None) -> None:
    with pytest.raises(InvalidInput, match=f"need a scheduler of .* Got {scheduler!r}"):
        RunConfig.from_dict(GOOD | {"scheduler": scheduler, "scheduler_options": {"num_warmup_steps": 3}})


FULL = RunConfig(
    model="ViT-B-32#openai",
    train_data="pairs",
    eval_data="other",
    val_split=0.1,
    run_name="a.b_c-1",
    optimizer="AdamW",
    optimizer_options={"weight_decay": 0, "beta2": 0.98},
    learning_rate=1,
    epochs=3,
    batch_size=64,
    scheduler="cosine",
    scheduler_options={"num_warmup_steps": 10},
    seed=2**32 - 1,
)


def test_json_and_protobuf_round_trips() -> None:
    assert RunConfig.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL
    struct = Struct()
    struct.update(FULL.to_dict())  # as in a request of Jina: every number is a float
    again = RunConfig.from_dict(MessageToDict(struct))
    assert again == FULL
    assert [type(value) for value in again.to_dict().values()] == [type(value) for value in FULL.to_dict().values()]
    assert type(again.scheduler_options["num_warmup_steps"]) is int


def test_a_memory_must_hold_a_batch() -> None:
    fields = {"model": "resnet-base", "loss": "TripletMarginLoss", "batch_size": 30}
    for size, processes, batch in ((29, 1, 30), (31, 4, 32)):
        given = {"loss_options": {"memory_size": size}, "training_options": {"num_processes": processes}}
        with pytest.raises(InvalidInput, match=f"must be at least a batch, {batch} images. Got {size}. Raise it"):
            RunConfig.from_dict(GOOD | fields | given)
    for size in (0, 30, 64.0):  # a float, as protobuf delivers it
        config = RunConfig.from_dict(GOOD | fields | {"loss_options": {"memory_size": size}})
        assert type(config.metric.loss_options["memory_size"]) is int


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        FULL.epochs = 4  # type: ignore[misc]
