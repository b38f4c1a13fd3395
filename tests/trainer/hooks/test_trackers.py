"""Experiment trackers in real runs: their files, and that their errors do not end a run."""

from __future__ import annotations

import json
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetuner.config.callbacks import (
    Callback,
    EvaluationCallback,
    MLflowLogger,
    TensorBoardLogger,
    WandBLogger,
    callback_config,
)
from finetuner.config.run_config import RunConfig
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.hooks import tracker_checks
from finetuner.executors.trainer.hooks.evaluation import Scores
from finetuner.executors.trainer.hooks.hook import Progress, closing
from finetuner.executors.trainer.hooks.tracker_checks import wandb_mode
from finetuner.executors.trainer.hooks.trackers import make_tracker
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.clip import Clip

Ask = Callable[..., Any]
Push = Callable[..., Any]
Work = Callable[..., tuple[int, RunFolder]]
Written = dict[str, list[tuple[int, float]]]
KINDS = [WandBLogger, MLflowLogger, TensorBoardLogger]
HIT = "clip-text-to-clip-vision_hit_at_k"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No account, no server, no network in this process, and no tracker process left behind."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "")  # the trackers' settings end with the test
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX, f"a tracker connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)
    yield
    assert not [child for child in psutil.Process().children() if "wandb" in child.name()]


def entries(*callbacks: Callback) -> list[dict[str, Any]]:
    return [callback_config(callback, {}) for callback in callbacks]


def wandb_records(folder: RunFolder) -> list[Any]:
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (file,) = folder.path.glob("wandb/offline-run-*/run-*.wandb")
    store, records = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        records.append(Record.FromString(data))
    store.close()
    return records


def read_wandb(folder: RunFolder) -> Written:
    written: Written = defaultdict(list)
    for record in wandb_records(folder):
        for item in record.history.item:
            name = item.key or item.nested_key[0]
            if not name.startswith("_"):
                written[name].append((record.history.step.num, json.loads(item.value_json)))
    return written


def mlflow_runs(folder: RunFolder) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient((folder.path / "mlruns").as_uri())
    return client, client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def read_mlflow(folder: RunFolder) -> Written:
    client, (run,) = mlflow_runs(folder)
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def read_tensorboard(folder: RunFolder) -> Written:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


READ = {WandBLogger: read_wandb, MLflowLogger: read_mlflow, TensorBoardLogger: read_tensorboard}


@pytest.mark.process
def test_an_epochs_values_and_all_metrics_arrive(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    trackers = [kind() for kind in KINDS]
    code, folder = work(epochs=2, val_split=0.25, callbacks=entries(*trackers, EvaluationCallback("pairs")))
    assert code == 0
    steps = [json.loads(line) for line in folder.curve.read_text().splitlines()]
    ends = [entry for entry in steps if entry["val_loss"] is not None]
    means = [sum(entry["loss"] for entry in steps if entry["epoch"] == epoch) / 3 for epoch in (1, 2)]
    scores = folder.read("scores") or {}
    during = [json.loads(line)["metrics"] for line in folder.evaluations.read_text().splitlines()]
    for kind, read in READ.items():
        assert str(folder.path) in next(m for m in caplog.messages if m.startswith(f"{kind.__name__}: "))
        written = read(folder)
        for name in ("val_loss", "learning_rate", "pairs_per_second"):
            assert written[name] == [(epoch, pytest.approx(ends[epoch - 1][name])) for epoch in (1, 2)]
        expected = [(epoch, pytest.approx(means[epoch - 1])) for epoch in (1, 2)]
        assert written["loss"] == written["train_loss"] == expected
        for name, before in scores["before"].items():
            points = [before, during[0][name], during[1][name], scores["after"][name]]
            assert written[name] == [(position, pytest.approx(value)) for position, value in enumerate(points)]


@pytest.mark.process
@pytest.mark.slow
def test_batch_logs_each_step_and_zero_shot_can_be_turned_off(work: Work) -> None:
    trackers = [kind(metrics_logger_step="batch", log_zero_shot=False) for kind in KINDS]
    code, folder = work(epochs=2, callbacks=entries(EvaluationCallback("pairs", steps_per_interval=2), *trackers))
    assert code == 0
    for read in READ.values():
        written = read(folder)
        for name in ("loss", "learning_rate", "pairs_per_second"):
            assert [step for step, _ in written[name]] == [1, 2, 3, 4, 5, 6]
        assert [step for step, _ in written["train_loss"]] == [3, 6]
        assert sorted({step for step, _ in written[HIT]}) == [2, 3, 4, 6, 7]


@pytest.mark.process
def test_wandb_receives_the_run(work: Work) -> None:
    args = {"project": "shop", "name": "first", "entity": "team", "group": "g", "job_type": "j", "notes": "n"}
    _, folder = work(callbacks=entries(WandBLogger(wandb_args={**args, "tags": ["a", "b"]})))
    records = wandb_records(folder)
    run = next(record.run for record in records if record.HasField("run"))
    told = {"project": run.project, "name": run.display_name, "entity": run.entity}
    assert told | {"group": run.run_group, "job_type": run.job_type, "notes": run.notes} == args
    assert list(run.tags) == ["a", "b"]
    config = {item.key or item.nested_key[0]: item.value_json for r in records for item in r.run.config.update}
    config |= {item.key or item.nested_key[0]: item.value_json for r in records for item in r.config.update}
    assert config["train_data"] == '"pairs"'
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    assert not list((folder.path / "wandb").rglob("*.py")), "no code is saved"


@pytest.mark.seconds
def test_disabled_wandb_writes_no_run(work: Work) -> None:
    code, folder = work(callbacks=entries(WandBLogger(wandb_args={"mode": "disabled"})))
    assert code == 0
    assert not list(folder.path.glob("wandb/*run-*"))


@pytest.mark.seconds
def test_mlflow_receives_the_run(work: Work) -> None:
    args = {"experiment_name": "shop", "run_name": "first", "description": "a run", "tags": {"season": "winter"}}
    _, folder = work(optimizer_options={"eps": 1e-6}, callbacks=entries(MLflowLogger(mlflow_args=args)))
    client, (run,) = mlflow_runs(folder)
    assert client.get_experiment(run.info.experiment_id).name == "shop"
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert (run.data.tags["season"], run.data.tags["mlflow.note.content"]) == ("winter", "a run")
    assert (run.data.params["train_data"], run.data.params["optimizer_options.eps"]) == ("pairs", "1e-06")


@pytest.mark.seconds
def test_mlflow_uses_the_address_of_the_trainer(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "server").as_uri())
    code, folder = work(callbacks=entries(MLflowLogger()))
    assert code == 0
    assert not (folder.path / "mlruns").exists()
    assert list((tmp_path / "server").glob("*/*/metrics/loss"))


@pytest.mark.process
def test_a_failed_run_has_failed_in_the_trackers(work: Work, trainer: Trainer, push: Push) -> None:
    push(trainer, "broken", [make_pair(f"caption {number}", b"no image %d" % number) for number in range(3)])
    code, folder = work(train_data="broken", callbacks=entries(*(kind() for kind in KINDS)))
    assert code == 1
    assert [record.exit.exit_code for record in wandb_records(folder) if record.HasField("exit")] == [1]
    assert [run.info.status for run in mlflow_runs(folder)[1]] == ["FAILED"]


@pytest.mark.seconds
def test_a_failing_tracker_is_one_warning(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left at https://me:secret@host/disk")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", full)
    code, _ = work(epochs=2, callbacks=entries(TensorBoardLogger(metrics_logger_step="batch")))
    assert code == 0
    warnings = [
        record.message
        for record in caplog.records
        if record.levelno == logging.WARNING and "stuck" not in record.message
    ]
    assert warnings == [
        "TensorBoardLogger failed and logs nothing more: OSError: No space left at https://***@host/disk"
    ]


def test_a_tracker_that_does_not_start_fails_before_training(
    work: Work, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://host")
    code, folder = work(callbacks=entries(MLflowLogger(), TensorBoardLogger()))
    assert code == 1
    assert (folder.read("outcome") or {})["details"].startswith("MLflowLogger must be able to start. Got ")
    assert "Finetuning:" not in caplog.text


def test_a_resumed_run_continues_the_run_of_the_tracker(tmp_path: Path, clip_mini: Clip) -> None:
    folder, config = RunFolder(tmp_path), RunConfig("clip-mini", "pairs", run_name="killed")
    scores = Scores(folder)
    scores.add("before", {"hit": 0.5})
    for step in (0, 2):
        hook = make_tracker(MLflowLogger("batch"), config, scores, folder)
        hook.before_training(Progress(clip_mini, step=step))
        hook.after_step(Progress(clip_mini, step=step + 1, values={"loss": 2.0 - step}))
        hook.close(failed=step == 0)
    assert read_mlflow(folder) == {"loss": [(1, 2.0), (3, 0.0)], "hit": [(0, 0.5)]}
    assert [run.info.status for run in mlflow_runs(folder)[1]] == ["FINISHED"]
    folder.start_over()
    assert list(tmp_path.iterdir()) == []


def test_names_are_adapted_to_the_tracker(tmp_path: Path, clip_mini: Clip) -> None:
    folder = RunFolder(tmp_path)
    hook = make_tracker(MLflowLogger(), RunConfig("clip-mini", "pairs", run_name="r"), Scores(folder), folder)
    with closing([hook]):
        hook.before_training(Progress(clip_mini))
        hook.after_epoch(Progress(clip_mini, epoch=1, values={"../größe?_hit@k": 1.0}))
    assert read_mlflow(folder) == {"___größe__hit_k": [(1, 1.0)]}


def test_loggers_that_cannot_work_here_are_refused(trainer: Trainer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(callback: Callback, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            ask(trainer.fit, config={"model": "clip-mini", "train_data": "pairs", "callbacks": entries(callback)})
        assert ask(trainer.list_runs) == []

    refused(WandBLogger(wandb_args={"mode": "online"}), "'online'. Set WANDB_API_KEY")
    monkeypatch.setattr(tracker_checks, "find_spec", lambda name: None)
    for kind, package in zip(KINDS, ("wandb", "mlflow", "tensorboard"), strict=True):
        refused(
            kind(), rf"{kind.__name__} must find the package {package} on the trainer. .*open-finetuner\[trackers\]"
        )


def test_wandb_is_online_only_if_the_environment_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (wandb_mode({}), wandb_mode({"mode": "disabled"})) == ("offline", "disabled")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert (wandb_mode({}), wandb_mode({"mode": "offline"})) == ("online", "offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode({}) == "offline"
    with pytest.raises(InvalidInput, match="no other WANDB_MODE"):
        wandb_mode({"mode": "online"})


def test_hooks_are_closed_as_failed_after_an_error() -> None:
    from finetuner.executors.trainer.hooks.hook import Hook

    class Closed(Hook):
        failed: bool | None = None

        def close(self, *, failed: bool) -> None:
            self.failed = failed

    hooks = [Closed(), Closed()]
    with closing(hooks):
        assert [hook.failed for hook in hooks] == [None, None]
    assert [hook.failed for hook in hooks] == [False, False]
    with pytest.raises(FinetunerError), closing(hooks):
        raise FinetunerError("over")
    assert [hook.failed for hook in hooks] == [True, True]
