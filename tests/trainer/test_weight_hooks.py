"""Hooks that watch values and keep weights, one by one and around a short training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from executors.trainer.hooks import Hook, Progress
from executors.trainer.training import train
from executors.trainer.training_data import TrainingData
from executors.trainer.weight_hooks import (
    KeepBestModel,
    KeepCheckpoints,
    MixWeights,
    StopEarly,
    Watch,
    copied_weights,
    interpolated,
)
from finetuner.backbones import find_backbone
from finetuner.callback import BestModelCheckpoint, EarlyStopping
from finetuner.clip import Clip, load_backbone, load_towers
from finetuner.run_config import RunConfig

Weights = Mapping[str, torch.Tensor]


class Recorder(Hook):
    """Notes every call, and the weights after each epoch."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []
        self.values: list[dict[str, float]] = []
        self.weights: list[Weights] = []
        self.modes: set[tuple[str, bool]] = set()

    def after_step(self, progress: Progress) -> None:
        self.calls.append(("step", progress.epoch, progress.step))
        self.modes.add(("step", progress.model.network.training))

    def after_epoch(self, progress: Progress) -> None:
        self.calls.append(("epoch", progress.epoch, progress.step))
        self.modes.add(("epoch", progress.model.network.training))
        self.values.append(dict(progress.values))
        self.weights.append(copied_weights(progress.model.network))


class Announce(Hook):
    """Reports given values, one an epoch."""

    def __init__(self, name: str, values: list[float]) -> None:
        self._name = name
        self._values = values

    def after_epoch(self, progress: Progress) -> None:
        progress.values[self._name] = self._values[progress.epoch - 1]


def trained(data: TrainingData, *hooks: Hook, epochs: int = 3, **fields: Any) -> tuple[Progress, list[dict[str, Any]]]:
    reports: list[dict[str, Any]] = []
    progress = Progress(load_backbone(find_backbone("clip-mini")))
    config = RunConfig(model="clip-mini", train_data="data", epochs=epochs, device="cpu", **fields)
    for hook in hooks:
        hook.before_training(progress)
    train(progress, data, config, learning_rate=5e-4, batch_size=4, report=reports.append, hooks=hooks)
    for hook in hooks:
        hook.choose_weights(progress)
    return progress, reports


def equal(left: Weights, right: Weights) -> bool:
    return set(left) == set(right) and all(torch.equal(value, right[name]) for name, value in left.items())


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
def test_what_is_better(monitor: str, mode: str, values: list[float], better: list[bool]) -> None:
    watch = Watch(BestModelCheckpoint(monitor, mode))
    assert [watch.is_better({monitor: value}) for value in values] == better


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
def test_training_stops_where_nothing_gets_better(
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


def naive_mix(pretrained: list[float], tuned: list[float], alpha: float) -> list[float]:
    return [(1 - alpha) * before + alpha * after for before, after in zip(pretrained, tuned, strict=True)]


@pytest.mark.parametrize("alpha", [0, 0.25, 0.4, 1])
def test_wise_ft_equals_a_plain_loop(alpha: float, blobs_of_colour: TrainingData) -> None:
    start = copied_weights(load_backbone(find_backbone("clip-mini")).network)
    tuned = copied_weights(trained(blobs_of_colour, epochs=1)[0].model.network)
    progress, _ = trained(blobs_of_colour, MixWeights(alpha), epochs=1)
    mixed = copied_weights(progress.model.network)
    if alpha in (0, 1):
        assert equal(mixed, tuned if alpha else start)
    for name, value in mixed.items():
        expected = naive_mix(start[name].double().flatten().tolist(), tuned[name].double().flatten().tolist(), alpha)
        assert value.flatten().tolist() == pytest.approx(expected, abs=1e-6), name


def test_wise_ft_mixes_only_what_can_be_mixed() -> None:
    pretrained = {"weight": torch.tensor([0.0, -0.0]), "count": torch.tensor(3)}
    tuned = {"weight": torch.tensor([1.0, -2.0]), "count": torch.tensor(5)}
    for alpha in (0.0, 0.5, 1.0):
        mixed = interpolated(pretrained, tuned, alpha)
        assert mixed["weight"].tolist() == [alpha, -2 * alpha]
        assert mixed["count"].item() == 5


def test_the_best_weights_are_mixed(blobs_of_colour: TrainingData, clip_mini: Clip) -> None:
    recorder = Recorder()
    hooks = (recorder, Announce("x", [2, 1]), KeepBestModel(BestModelCheckpoint("x")), MixWeights(0.5))
    progress, _ = trained(blobs_of_colour, *hooks, epochs=2)
    expected = interpolated(copied_weights(clip_mini.network), recorder.weights[0], 0.5)
    assert equal(copied_weights(progress.model.network), expected)


def test_every_moment_is_documented() -> None:
    for name, moment in vars(Hook).items():
        if re.fullmatch("[a-z]+_[a-z]+", name):
            assert moment.__doc__, name
