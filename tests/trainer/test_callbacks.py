"""Callbacks of real runs: their results in the log, in the run's folder and in the artifact."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from docarray import Document

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import read_manifest, verify_artifact
from finetuner.config.callbacks import (
    BestModelCheckpoint,
    Callback,
    EarlyStopping,
    EvaluationCallback,
    TrainingCheckpoint,
    WiSEFTCallback,
    callback_config,
)
from finetuner.contract.wire import LABEL_TAG
from finetuner.evaluation.search import evaluate_search, read_search_data
from finetuner.exceptions import DatasetNotFound, InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS
from finetuner.models.clip_files import load_backbone

Ask = Callable[..., Any]
Push = Callable[..., Any]
Work = Callable[..., tuple[int, RunFolder]]
SEED = EvaluationCallback("query", "index", model="clip-text", index_model="clip-vision", limit=3)
PREFIX = "clip-text-to-clip-vision_"


def entries(*callbacks: Callback) -> list[dict[str, Any]]:
    return [callback_config(callback, {}) for callback in callbacks]


@pytest.fixture
def searchable(trainer: Trainer, push: Push, pairs: list[Document]) -> tuple[list[Document], list[Document]]:
    """Texts and images as the seeds hold them, as the datasets 'query' and 'index'."""
    queries = [Document(text=pair.chunks[0].text, tags={LABEL_TAG: pair.tags[LABEL_TAG]}) for pair in pairs[:8]]
    index = [Document(blob=pair.chunks[1].blob, tags={LABEL_TAG: pair.tags[LABEL_TAG]}) for pair in pairs[:10]]
    push(trainer, "query", queries)
    push(trainer, "index", index)
    return queries, index


def model_of(trainer: Trainer, folder: RunFolder) -> Any:
    return load_artifact(trainer.shared_workspace.artifacts / folder.path.name)


@pytest.mark.seconds
def test_an_evaluation_callback_scores_before_during_and_after(
    work: Work, trainer: Trainer, ask: Ask, searchable: tuple[list[Document], list[Document]],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    code, folder = work(epochs=2, run_name="searched", callbacks=entries(SEED))
    assert code == 0
    data = read_search_data(SEED, TOWERS, *searchable)
    scores = folder.read("scores") or {}
    models = {"before": load_backbone(find_backbone("clip-mini")), "after": model_of(trainer, folder)}
    assert list(scores) == ["before", "after"]
    for stage, model in models.items():
        expected = {PREFIX + name: value for name, value in evaluate_search(model, data)[0].items()}
        assert scores[stage] == pytest.approx(expected)
    answer = ask(trainer.metrics_of_run, name="searched")
    assert answer["scores"] == scores
    found = answer["evaluations"]
    assert [(entry["epoch"], entry["step"]) for entry in found] == [(0, 0), (1, 3), (2, 6)]
    assert found[0]["metrics"] == scores["before"]
    assert found[-1]["metrics"] == scores["after"], "the published weights are those of the last epoch"
    assert verify_artifact(trainer.shared_workspace.artifacts / folder.path.name).metrics == scores
    messages = [record.message for record in caplog.records]
    heads = ["before fine-tuning:", "after epoch 1, step 3:", "after epoch 2, step 6:", "after fine-tuning:"]
    assert [message for message in messages if message in heads] == heads
    assert sum(bool(re.fullmatch(rf"Metric: '{PREFIX}precision_at_k' Value: \d\.\d{{5}}", m)) for m in messages) == 4
    assert folder.read("examples") is None


def test_the_manifest_names_the_searched_data(
    work: Work, trainer: Trainer, ask: Ask, searchable: tuple[list[Document], list[Document]]
) -> None:
    _, folder = work(callbacks=entries(SEED))
    versions = {dataset["name"]: dataset["version"] for dataset in ask(trainer.list_datasets)}
    manifest = read_manifest(trainer.shared_workspace.artifacts / folder.path.name)
    assert manifest.data == {
        "train": versions["pairs"], "query_data_0": versions["query"], "index_data_0": versions["index"],
    }  # fmt: skip


def test_data_that_a_callback_reads_is_in_use(
    trainer: Trainer, ask: Ask, searchable: tuple[list[Document], list[Document]]
) -> None:
    ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "run_name": "r", "callbacks": entries(SEED)})
    with pytest.raises(InvalidInput, match="dataset must not be in use. Got 'index', which run 'r' reads"):
        ask(trainer.delete_dataset, name="index")


@pytest.mark.slow
def test_several_callbacks_keep_their_own_data_and_names(
    work: Work, trainer: Trainer, push: Push, pairs: list[Document], searchable: tuple[list[Document], list[Document]]
) -> None:
    push(trainer, "others", pairs[12:])
    code, folder = work(
        eval_data="pairs",
        callbacks=entries(
            SEED,
            EvaluationCallback("others", limit=2, caption="others", gather_examples=True, num_example_queries=2),
            EvaluationCallback("index", model="clip-vision"),
        ),
    )
    assert code == 0
    scores = (folder.read("scores") or {})["after"]
    for name in (f"{PREFIX}hit_at_k", f"2_{PREFIX}hit_at_k", "others_hit_at_k", "clip-vision_hit_at_k"):
        assert name in scores
    others = read_search_data(EvaluationCallback("others", limit=2), TOWERS, pairs[12:], None)
    expected, _ = evaluate_search(model_of(trainer, folder), others)
    assert scores["others_ndcg_at_k"] == pytest.approx(expected["ndcg_at_k"])


def test_examples_go_into_folder_artifact_and_answer(
    work: Work, trainer: Trainer, ask: Ask, searchable: tuple[list[Document], list[Document]]
) -> None:
    callback = EvaluationCallback("query", "index", gather_examples=True, num_example_queries=2, limit=3)
    _, folder = work(run_name="shown", callbacks=entries(callback))
    answer = ask(trainer.examples_of_run, name="shown")["examples"]
    assert answer == folder.read("examples")
    assert {stage: list(found) for stage, found in answer.items()} == {
        stage: [query.text for query in searchable[0][:2]] for stage in ("before", "after")
    }
    assert all(len(matches) == 3 for found in answer.values() for matches in found.values())
    published = trainer.shared_workspace.artifacts / folder.path.name
    assert "example-results.yml" in verify_artifact(published).files
    assert yaml.safe_load((published / "example-results.yml").read_text()) == answer


def test_a_run_without_examples_has_none(work: Work, trainer: Trainer, ask: Ask) -> None:
    work(run_name="plain")
    assert ask(trainer.examples_of_run, name="plain")["examples"] == {}
    assert ask(trainer.metrics_of_run, name="plain")["evaluations"] == []


@pytest.mark.slow
def test_an_interval_of_steps_evaluates_besides_and_changes_no_weights(
    work: Work, trainer: Trainer, searchable: tuple[list[Document], list[Document]]
) -> None:
    often = EvaluationCallback("query", "index", steps_per_interval=2)
    folders = [work(epochs=2, callbacks=found)[1] for found in (entries(often), [])]
    lines = [json.loads(line)["step"] for line in folders[0].evaluations.read_text().splitlines()]
    assert lines == [2, 3, 4, 6, 6]  # steps 2, 4, 6 and the ends of both epochs
    files = [read_manifest(trainer.shared_workspace.artifacts / folder.path.name).files for folder in folders]
    name = "models/clip-vision/weights.safetensors"
    assert files[0][name] == files[1][name]


@pytest.mark.seconds
def test_the_best_epoch_by_a_callbacks_metric_is_published(
    work: Work, trainer: Trainer, searchable: tuple[list[Document], list[Document]]
) -> None:
    _, folder = work(
        epochs=4, learning_rate=0.01, callbacks=entries(BestModelCheckpoint(f"{PREFIX}reciprocal_rank"), SEED)
    )
    lines = [json.loads(line)["metrics"] for line in folder.evaluations.read_text().splitlines()]
    best = max(lines, key=lambda metrics: metrics[f"{PREFIX}reciprocal_rank"])
    assert (folder.read("scores") or {})["after"] == best


@pytest.mark.slow
def test_early_stopping_checkpoints_and_wise_ft_together(
    work: Work, trainer: Trainer, searchable: tuple[list[Document], list[Document]], caplog: pytest.LogCaptureFixture
) -> None:
    stop = EarlyStopping("loss", mode="max", patience=2)  # a loss does not rise
    code, folder = work(epochs=50, callbacks=entries(SEED, stop, TrainingCheckpoint(2), WiSEFTCallback(0)))
    assert code == 0
    stopped = next(record.message for record in caplog.records if record.message.startswith("Early stopping after"))
    epoch = int(re.findall(r"\d+", stopped)[0])
    assert epoch < 50
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        f"epoch-{number:04d}" for number in (epoch - 1, epoch)
    ]
    scores = folder.read("scores") or {}
    assert scores["after"] == scores["before"], "alpha 0 is the pretrained model, and that is what was scored"
    before = load_backbone(find_backbone("clip-mini")).network.state_dict()
    after = model_of(trainer, folder).network.state_dict()
    assert all(bool((before[name] == value).all()) for name, value in after.items())


@pytest.mark.seconds
def test_eval_data_is_the_data_of_val_loss(work: Work, trainer: Trainer, push: Push, pairs: list[Document]) -> None:
    push(trainer, "test", pairs[12:])
    code, folder = work(
        eval_data="test", epochs=20, learning_rate=0.05, callbacks=entries(BestModelCheckpoint(), EarlyStopping())
    )
    assert code == 0
    losses = [
        point["val_loss"]
        for point in map(json.loads, folder.curve.read_text().splitlines())
        if point["val_loss"] is not None
    ]
    assert 2 < len(losses) < 20
    assert losses.index(min(losses)) == len(losses) - 3, "patience is 2"


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([BestModelCheckpoint()], "Pass eval_data, set val_split, for example"),
        ([EarlyStopping("clip-text_hit_at_k")], "Metrics come from an EvaluationCallback"),
    ],
)
def test_fit_refuses_callbacks_that_cannot_work(
    callbacks: list[Callback], message: str, trainer: Trainer, ask: Ask
) -> None:
    with pytest.raises(InvalidInput, match=message):
        ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "callbacks": entries(*callbacks)})
    assert ask(trainer.list_runs) == []


def test_fit_refuses_a_missing_dataset_of_a_callback(trainer: Trainer, ask: Ask) -> None:
    with pytest.raises(DatasetNotFound, match="Got 'query'"):
        ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "callbacks": entries(SEED)})
    assert ask(trainer.list_runs) == []


def test_data_that_the_model_cannot_read_fails_before_training(
    work: Work, searchable: tuple[list[Document], list[Document]], caplog: pytest.LogCaptureFixture
) -> None:
    code, folder = work(callbacks=entries(EvaluationCallback("index", "query")))
    outcome = folder.read("outcome") or {}
    assert (code, outcome["status"]) == (1, "FAILED")
    assert "query_data: document 0" in outcome["details"]
    assert "Set the callback's model or index_model to 'clip-vision'" in outcome["details"]
    assert "Finetuning:" not in caplog.text


def test_a_second_attempt_starts_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for path in (folder.curve, folder.evaluations, folder.log):
        path.write_text("{}\n")
    for name in ("scores", "examples", "outcome", "process", "request"):
        folder.write(name, {})
    folder.start_over()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "request.json"]


def test_a_real_worker_runs_callbacks(
    tmp_path: Path, trainer_at: Callable[..., Any], push: Push, pairs: list[Document], ask: Ask,
    wait_for_end: Callable[[Trainer, str], dict[str, Any]],
) -> None:  # fmt: skip
    with trainer_at(tmp_path / "workspace") as trainer:
        push(trainer, "pairs", pairs)
        config = {"model": "clip-mini", "train_data": "pairs", "epochs": 2.0, "batch_size": 8.0, "device": "cpu"}
        callbacks = entries(EvaluationCallback("pairs"), BestModelCheckpoint(), EarlyStopping(), WiSEFTCallback())
        ask(trainer.fit, config={**config, "val_split": 0.25, "run_name": "all", "callbacks": callbacks})
        assert wait_for_end(trainer, "all")["status"] == "FINISHED", ask(trainer.logs_of_run, name="all")["text"]
        log = ask(trainer.logs_of_run, name="all")["text"]
        for expected in ("Best model: epoch", "WiSE-FT: 0.4 of", f"'{PREFIX}hit_at_k' Value:"):
            assert expected in log
