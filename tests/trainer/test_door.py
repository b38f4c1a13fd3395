"""Refusals of /fit before a run exists, and its answer for a good run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docarray import Document

from finetuner.contract import wire
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import (
    AlreadyExists,
    ArtifactNotFound,
    DatasetNotFound,
    FinetunerError,
    InvalidInput,
    NoSuchModel,
    RunNotFound,
)
from finetuner.executors.trainer.executor import Trainer

Ask = Callable[..., Any]
GOOD = {"model": "clip-mini", "train_data": "pairs", "run_name": "first"}


def test_fit_records_the_run_and_does_not_wait_for_it(trainer: Trainer, ask: Ask) -> None:
    run = ask(trainer.fit, config={**GOOD, "eval_data": "pairs", "epochs": 3.0, "description": "new season"})
    assert (run["name"], run["experiment"], run["status"]) == ("first", "default", "CREATED")
    assert run["details"] == "Run submitted and awaits execution"
    assert len(bytes.fromhex(run["artifact_id"])) == 12
    assert (run["config"]["epochs"], run["config"]["description"]) == (3, "new season")
    assert (run["started_at"], run["ended_at"]) == (None, None)
    assert ask(trainer.get_run, name="first") == run
    assert ask(trainer.status_of_run, name="first") == {"status": "CREATED", "details": run["details"]}
    assert ask(trainer.logs_of_run, name="first") == {"text": "", "offset": 0, "status": "CREATED"}
    assert ask(trainer.metrics_of_run, name="first")["steps"] == []


def test_a_run_without_a_loss_records_the_loss_of_its_task(trainer: Trainer, ask: Ask) -> None:
    assert ask(trainer.fit, config=GOOD)["config"]["loss"] == "CLIPLoss"
    assert ask(trainer.get_run, name="first")["config"]["loss"] == "CLIPLoss"


def test_a_run_without_a_name_gets_one(trainer: Trainer, ask: Ask) -> None:
    config = {key: value for key, value in GOOD.items() if key != "run_name"}
    names = [ask(trainer.fit, config=config)["name"] for _ in range(2)]
    assert names[0] != names[1]
    assert [run["name"] for run in ask(trainer.list_runs)] == names


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"run_name": "../first"},
            InvalidInput,
            r"run_name must be 1 to 128 letters.*Got '../first'.*paths are not names",
        ),
        ({"run_name": "/etc/passwd"}, InvalidInput, r"Got '/etc/passwd'"),
        ({"run_name": "a" * 129}, InvalidInput, r"run_name must be 1 to 128"),
        ({"experiment_name": ""}, InvalidInput, r"experiment_name must be 1 to 128"),
        ({"train_data": "no-such-data"}, DatasetNotFound, r"Got 'no-such-data', .*\(pairs\).*push_data"),
        ({"train_data": "../pairs"}, InvalidInput, r"train_data must be 1 to 128 letters.*Got '../pairs'"),
        ({"eval_data": "no-such-data"}, DatasetNotFound, r"Got 'no-such-data'"),
        ({"model": "clip-mimi"}, NoSuchModel, r"Got 'clip-mimi'. Nearest: clip-mini"),
        ({"model": "ViT-B-33::openai"}, NoSuchModel, r"Got 'ViT-B-33'. Nearest: ViT-B-32"),
        ({"model": "ViT-B-32::no-such-tag"}, NoSuchModel, r"must name a tag \(.*openai.*Got 'no-such-tag'"),
        ({"model": "ViT-B-32::/etc/passwd"}, NoSuchModel, r"a checkpoint file in .*weights.*Got '/etc/passwd'"),
        ({"model_artifact": "0" * 24}, ArtifactNotFound, r"artifact must be published. Got 000"),
        ({"model_artifact": "no-such-alias"}, ArtifactNotFound, r"Got 'no-such-alias'"),
        (
            {"loss": "CLIPLos"},
            InvalidInput,
            r"loss must be one of CLIPLoss, SigLIPLoss. Got 'CLIPLos'. Did you mean 'CLIPLoss'",
        ),
        (
            {"optimizer": "SGDD"},
            InvalidInput,
            r"optimizer must be one of .*Adam, AdamW, .* Got 'SGDD'. Did you mean 'SGD'",
        ),
        ({"loss_options": {"matryoshka_dims": [128]}}, InvalidInput, r"must be below 128, the size.* Got 128"),
        ({"optimizer_options": {"momentum": 0.9}}, InvalidInput, r"keys of weight_decay.*Got momentum"),
        (
            {"optimizer_options": {"beta1": 1.5}},
            InvalidInput,
            r"optimizer_options\['beta1'\] must be .*0\.9999\]. Got 1.5",
        ),
        (
            {"scheduler": "linea"},
            InvalidInput,
            r"scheduler must be one of constant, .*Got 'linea'. Did you mean 'linear'",
        ),
        ({"scheduler_options": {"num_warmup_steps": 1}}, InvalidInput, r"need a scheduler of .*Got None"),
        ({"sampler": "class"}, InvalidInput, r"sampler must be one of auto, random. Got 'class'"),
        ({"device": "tpu"}, InvalidInput, r"device must be one of .*Got 'tpu'"),
        ({"epochs": 0}, InvalidInput, r"epochs must be .*\[1, 10000\]. Got 0"),
        ({"epochs": 1.5}, InvalidInput, r"epochs must be a whole number.*Got 1.5"),
        ({"epochs": "5"}, InvalidInput, r"epochs must be a .*number.*Got '5'"),
        ({"epochs": True}, InvalidInput, r"epochs must be a .*number.*Got True"),
        ({"batch_size": 1}, InvalidInput, r"batch_size must be .*\[2, 65536\]. Got 1"),
        ({"learning_rate": 0}, InvalidInput, r"learning_rate must be .*Got 0"),
        ({"learning_rate": float("nan")}, InvalidInput, r"learning_rate must be a number.*Got nan"),
        ({"val_split": 1.0}, InvalidInput, r"val_split must be .*Got 1"),
        ({"num_workers": -1}, InvalidInput, r"num_workers must be .*Got -1"),
        ({"seed": -1}, InvalidInput, r"seed must be .*Got -1"),
        ({"description": "x" * 2001}, InvalidInput, r"description must be at most 2000"),
        ({"freeze": True}, InvalidInput, r"freeze is for image models. Got True for clip-mini"),
        ({"frieze": True}, InvalidInput, r"must have fields of model, .*Got frieze"),
        ({"model": None}, InvalidInput, r"model must be a string. Got None"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_and_no_run_is_recorded(
    change: dict[str, Any], error: type[FinetunerError], message: str, trainer: Trainer, ask: Ask
) -> None:
    with pytest.raises(error, match=message) as caught:
        ask(trainer.fit, config={**GOOD, **change})
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert ask(trainer.list_runs) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "parameter 'config' is required"),
        ({"config": "clip-mini"}, "run config must be a mapping of field names.*Got 'clip-mini'"),
        ({"config": 5.0}, "run config must be a mapping of field names.*Got 5.0"),
        ({"config": {}}, "run config must have 'model'"),
        ({"config": {"model": "clip-mini"}}, "run config must have 'train_data'"),
        ({"config": GOOD, "confg": 1}, "parameters must be of: config. Got confg"),
    ],
)
def test_a_request_without_a_configuration_is_refused(
    parameters: dict[str, Any], message: str, trainer: Trainer, ask: Ask
) -> None:
    with pytest.raises(InvalidInput, match=message):
        ask(trainer.fit, **parameters)


def test_a_name_is_taken_within_its_experiment_only(trainer: Trainer, ask: Ask) -> None:
    ask(trainer.fit, config=GOOD)
    with pytest.raises(AlreadyExists, match="new in experiment 'default'. Got 'first', which exists. Choose another"):
        ask(trainer.fit, config=GOOD)
    ask(trainer.fit, config={**GOOD, "experiment_name": "other"})
    assert [run["experiment"] for run in ask(trainer.list_runs)] == ["default", "other"]
    assert [run["name"] for run in ask(trainer.list_runs, experiment="other")] == ["first"]
    assert [entry["name"] for entry in ask(trainer.list_experiments)] == ["default", "other"]


def test_an_experiment_is_made_once(trainer: Trainer, ask: Ask) -> None:
    first = ask(trainer.create_experiment, name="spring")
    assert first["status"] == "ACTIVE"
    assert ask(trainer.create_experiment, name="spring") == first
    with pytest.raises(InvalidInput, match=r"experiment name must be 1 to 128 letters.*Got '\.\./spring'"):
        ask(trainer.create_experiment, name="../spring")


@pytest.mark.parametrize(
    "endpoint", ["get_run", "status_of_run", "logs_of_run", "metrics_of_run", "cancel_run", "delete_run"]
)
def test_a_run_that_does_not_exist(endpoint: str, trainer: Trainer, ask: Ask) -> None:
    with pytest.raises(RunNotFound, match="run must exist in experiment 'default'. Got 'none'"):
        ask(getattr(trainer, endpoint), name="none")
    with pytest.raises(InvalidInput, match="parameter 'name' is required"):
        ask(getattr(trainer, endpoint))
    with pytest.raises(InvalidInput, match=r"'experiment' must be a string. Got 5\.0"):
        ask(getattr(trainer, endpoint), name="none", experiment=5.0)


def test_runs_are_not_listed_for_an_experiment_that_is_no_name(trainer: Trainer, ask: Ask) -> None:
    with pytest.raises(InvalidInput, match="'experiment' must be a string"):
        ask(trainer.list_runs, experiment=5.0)


def test_an_acknowledged_run_survives_a_restart(
    tmp_path: Path, still_queue: None, trainer_at: Callable[..., Any], push: Callable[..., Any],
    pairs: list[Document], ask: Ask,
) -> None:  # fmt: skip
    # characters that mean something in a URL
    workspace = tmp_path / "50% off? #1"
    with trainer_at(workspace) as trainer:
        push(trainer, "pairs", pairs[:4])
        run = ask(trainer.fit, config=GOOD)
    assert (workspace / "runs.sqlite").is_file()
    with trainer_at(workspace) as trainer:
        assert ask(trainer.list_runs) == [run]
        assert [dataset["name"] for dataset in ask(trainer.list_datasets)] == ["pairs"]


def test_a_workspace_has_one_trainer(trainer: Trainer, trainer_at: Callable[..., Any]) -> None:
    with (
        pytest.raises(
            InvalidInput, match="workspace must have one trainer. Got .*Stop it, or choose another workspace"
        ),
        trainer_at(trainer.shared_workspace.root),
    ):
        pass


def test_a_workspace_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="workspace must be a folder or a file:// URL. Got 's3://bucket'"):
        Trainer(workspace_url="s3://bucket")


def scored(pairs: list[Document], scores: list[float | None]) -> list[Document]:
    return [
        make_pair(pair.chunks[0].text, pair.chunks[1].blob, {} if score is None else {wire.SCORE_TAG: score})
        for pair, score in zip(pairs, scores, strict=False)
    ]


def test_scored_pairs_are_accepted_and_bad_scores_are_refused_before_the_run_exists(
    trainer: Trainer, ask: Ask, push: Callable[..., Any], pairs: list[Document]
) -> None:
    push(trainer, "scored", scored(pairs, [0, 0.5, 2, 1]))
    push(trainer, "negative", scored(pairs, [1, 0.5, -2, -3]))
    push(trainer, "some", scored(pairs, [1, None, 0.5, 1]))
    sides = [Document(text="a"), Document(text="b")]
    push(trainer, "texts", [Document(chunks=sides, tags={wire.SCORE_TAG: 1}) for _ in range(3)])
    for change, message in (
        ({"train_data": "negative"}, r"document 2 \(.*\): score of a pair must be at least 0: .* Got -2"),
        ({"guard_data": "negative"}, r"guard_data must be .*document 2 \(.*\): score of a pair must be at least 0"),
        (
            {"eval_data": "some"},
            "eval_data must have a score for each pair, or for none. Got 3 pairs .* and 1 with",
        ),
        (
            {"train_data": "texts"},
            "scored pairs. The first one that cannot .* document 0 .*Got 2 text and 0 image",
        ),
        ({"replay_data": "some"}, "replay_data must have a score for each pair, or for none"),
        ({"replay_data": "pairs", "guard_data": "pairs"}, "replay_data must not be the guard_data.* Split them"),
        ({"loss_options": {"score_weights": "log"}}, "is for train_data whose pairs have a score. Got 'log' for pairs"),
    ):
        with pytest.raises(InvalidInput, match=message):
            ask(trainer.fit, config=GOOD | change)
    assert ask(trainer.list_runs) == []
    data = {"train_data": "scored", "eval_data": "scored", "guard_data": "pairs"}
    run = ask(trainer.fit, config=GOOD | data | {"loss_options": {"score_weights": "log"}})
    assert run["config"]["loss_options"] == {"score_weights": "log"}


def test_data_of_another_kind_is_refused_before_the_run_exists(
    trainer: Trainer, ask: Ask, push: Callable[..., Any], pairs: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = [
        Document(blob=pair.chunks[1].blob, tags={"finetuner_label": pair.tags["finetuner_label"]}) for pair in pairs
    ]
    push(trainer, "labelled", labelled)
    push(trainer, "mixed", [*labelled[:2], *pairs[:2]])
    push(trainer, "one-without", [*labelled[:2], Document(id="bare", blob=pairs[0].chunks[1].blob), *labelled[2:]])
    monkeypatch.setattr("finetuner.executors.trainer.run_checks.check_row_weights", lambda *_: None)  # of a ResNet
    for change, message in (
        (
            {"train_data": "labelled"},
            "train_data must be a dataset of text-image pairs for clip-mini. Got 'labelled', wh",
        ),
        ({"eval_data": "labelled"}, "eval_data must be .* which holds labelled images"),
        (
            {"train_data": "mixed"},
            r"other documents. The first one that cannot be used is document 0 .*: pair must have two.*Got 0",
        ),
        (
            {"model": "resnet-base", "loss": "TripletMarginLoss", "train_data": "one-without"},
            r"other documents. The first one that cannot be used is document 2 \(bare\): image must have the tag",
        ),
        (
            {"model": "resnet-base", "loss": "TripletMarginLoss"},
            "dataset of labelled images for resnet-base. Got 'pairs'",
        ),
    ):
        with pytest.raises(InvalidInput, match=message):
            ask(trainer.fit, config=GOOD | change)
    assert ask(trainer.list_runs) == []
