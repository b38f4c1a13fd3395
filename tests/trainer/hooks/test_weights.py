"""Hooks that monitor values and keep weights, one by one and around a short training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finetuner.config.callbacks import BestModelCheckpoint, EarlyStopping
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.hooks.hook import Hook
from finetuner.executors.trainer.hooks.weights import KeepBestModel, KeepCheckpoints, Monitor, StopEarly, copied_weights
from finetuner.models.clip_files import load_towers
from tests.trainer.short_training import Announce, Recorder, equal, trained


def test_hooks_are_called_after_each_step_and_epoch_and_change_nothing(blobs_of_colour: TrainingData) -> None:
    recorder = Recorder()
    progress, reports = trained(blobs_of_colour, recorder, epochs=2, val_split=0.25)
    assert recorder.calls == [
        ("step", 1, 1),
        ("step", 1, 2),
        ("epoch", 1, 2),
        ("step", 2, 3),
        ("step", 2, 4),
        ("epoch", 2, 4),
    ]
    assert recorder.modes == {("step", True), ("epoch", False)}
    assert [values["val_loss"] for values in recorder.values] == [
        step["val_loss"] for step in reports if step["val_loss"] is not None
    ]
    for epoch, values in enumerate(recorder.values, 1):
        losses = [step["loss"] for step in reports if step["epoch"] == epoch]  # one report a step
        assert values["loss"] == values["train_loss"] == pytest.approx(sum(losses) / len(losses))
    without, _ = trained(blobs_of_colour, epochs=2, val_split=0.25)
    assert equal(copied_weights(progress.model.network), copied_weights(without.model.network))


@pytest.mark.parametrize(
    ("monitor", "mode", "values", "better"),
    [
        ("val_loss", "auto", [3.0, 2.0, 2.0, 1.0], [True, True, False, True]),
        ("hit_at_k", "auto", [0.1, 0.3, 0.2, 0.4], [True, True, False, True]),
        ("val_loss", "max", [3.0, 2.0, 4.0], [True, False, True]),
        ("hit_at_k", "min", [0.3, 0.1, 0.2], [True, True, False]),
    ],
)
def test_better_values(monitor: str, mode: str, values: list[float], better: list[bool]) -> None:
    monitored = Monitor(BestModelCheckpoint(monitor, mode))
    assert [monitored.is_better({monitor: value}) for value in values] == better


def test_the_best_epochs_weights_are_chosen(blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    caplog.set_level("INFO", "finetuner")
    best = KeepBestModel(BestModelCheckpoint("hit_at_k"))
    progress, _ = trained(blobs_of_colour, recorder, Announce("hit_at_k", [0.2, 0.5, 0.4]), best)
    chosen = copied_weights(progress.model.network)
    assert [equal(chosen, weights) for weights in recorder.weights] == [False, True, False]
    assert "Best model so far: epoch 2, hit_at_k 0.50000" in caplog.text
    assert "Best model: epoch 2 of 3" in caplog.text


def test_by_default_the_least_validation_loss_is_best(blobs_of_colour: TrainingData) -> None:
    recorder = Recorder()
    best = KeepBestModel(BestModelCheckpoint())
    progress, _ = trained(blobs_of_colour, recorder, Announce("val_loss", [1.0, 3.0, 2.0]), best, val_split=0.25)
    assert equal(copied_weights(progress.model.network), recorder.weights[0])


@pytest.mark.parametrize(
    ("settings", "values", "epochs"),
    [
        (EarlyStopping("x"), [1, 2, 3, 4, 5, 6], 6),
        (EarlyStopping("x"), [1, 3, 2, 3, 5, 6], 4),  # 3 is not better than 3
        (EarlyStopping("x"), [1, 3, 2, 4, 3, 4], 6),
        (EarlyStopping("x", patience=1), [1, 3, 2, 4, 5, 6], 3),
        (EarlyStopping("x", patience=0), [1, 3, 2, 4, 5, 6], 3),
        (EarlyStopping("x", patience=3), [3, 2, 1, 2, 5, 6], 4),
        (EarlyStopping("x", min_delta=1.5), [1, 2, 2.4, 3, 4, 5], 3),
        (EarlyStopping("x", baseline=3.5), [1, 2, 3, 4, 5, 6], 2),
        (EarlyStopping("x", mode="min"), [1, 2, 3, 4, 5, 6], 3),
        (EarlyStopping("x_loss"), [1, 2, 3, 4, 5, 6], 3),
    ],
)
def test_training_stops_without_improvement(
    settings: EarlyStopping, values: list[float], epochs: int,
    blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "finetuner")
    progress, reports = trained(blobs_of_colour, Announce(settings.monitor, values), StopEarly(settings), epochs=6)
    assert progress.epoch == reports[-1]["epoch"] == epochs
    assert (f"Early stopping after epoch {epochs}: {settings.monitor} has" in caplog.text) is bool(progress.stop)
    assert not progress.model.network.training


@pytest.mark.parametrize(("count", "kept"), [(1, [3]), (2, [2, 3]), (5, [1, 2, 3])])
def test_the_last_epochs_are_kept_as_models(
    count: int, kept: list[int], tmp_path: Path, blobs_of_colour: TrainingData
) -> None:
    recorder = Recorder()
    trained(blobs_of_colour, recorder, KeepCheckpoints(tmp_path / "checkpoints", count))
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == [f"epoch-{epoch:04d}" for epoch in kept]
    for name, epoch in zip(folders, kept, strict=True):
        model = load_towers(tmp_path / "checkpoints" / name, "checkpoint")
        assert equal(copied_weights(model.network), recorder.weights[epoch - 1])
    files = {path.suffix for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert files == {".json", ".safetensors"}


def test_a_checkpoint_is_written_again_by_a_resumed_run(tmp_path: Path, blobs_of_colour: TrainingData) -> None:
    recorder = Recorder()
    for left in ("epoch-0001", ".epoch-0001"):
        (tmp_path / left / "clip-text").mkdir(parents=True)
    trained(blobs_of_colour, recorder, KeepCheckpoints(tmp_path, 1), epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001"]
    assert equal(copied_weights(load_towers(tmp_path / "epoch-0001", "checkpoint").network), recorder.weights[0])


def test_the_best_epoch_and_patience_survive_a_kill(tmp_path: Path, blobs_of_colour: TrainingData) -> None:
    values = [0.2, 0.5, 0.4, 0.3]

    def hooks() -> tuple[Hook, ...]:
        return (
            Announce("x", values),
            KeepBestModel(BestModelCheckpoint("x")),
            StopEarly(EarlyStopping("x", patience=2)),
        )

    whole, _ = trained(blobs_of_colour, *hooks(), epochs=6)
    trained(blobs_of_colour, *hooks(), epochs=3, checkpoint=tmp_path / "checkpoint.pt")
    resumed, _ = trained(blobs_of_colour, *hooks(), epochs=6, checkpoint=tmp_path / "checkpoint.pt")
    assert resumed.epoch == whole.epoch == 4
    assert equal(copied_weights(resumed.model.network), copied_weights(whole.model.network))


def test_every_moment_is_documented() -> None:
    for name, moment in vars(Hook).items():
        if re.fullmatch("[a-z]+_[a-z]+|close|state|restore", name):
            assert moment.__doc__, name
