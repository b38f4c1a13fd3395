"""A run's curve: every step once, also after a kill; bounded; and what the endpoint adds of evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from executors.trainer import history
from executors.trainer.data.training_data import TrainingData
from executors.trainer.executor import Trainer
from executors.trainer.history import read_history
from executors.trainer.hooks import history as hook
from executors.trainer.hooks.history import RecordHistory, steps_per_point
from executors.trainer.hooks.hook import Hook, Progress
from executors.trainer.run_folder import RunFolder
from finetuner.exceptions import InvalidInput, RunNotFound
from finetuner.models.clip import Clip
from tests.trainer.short_training import trained


class Killed(Exception):
    """Stands for the end of the process."""


class KillAt(Hook):
    def __init__(self, step: int) -> None:
        self._step = step

    def after_step(self, progress: Progress) -> None:
        if progress.step == self._step:
            raise Killed


def points(folder: RunFolder, after: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_history(folder, after)["steps"]
    return found


def took(recorder: RecordHistory, model: Clip, steps: range) -> None:
    progress = Progress(model)
    for progress.step in steps:
        progress.epoch = 1 + progress.step // 1000
        progress.values = {"loss": float(progress.step), "learning_rate": 1e-3, "pairs_per_second": 9.0}
        recorder.after_step(progress)


def test_each_step_of_a_short_run_is_a_point(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    _, reports = trained(blobs_of_colour, RecordHistory(folder), epochs=3)
    found = points(folder)
    assert [{name: point[name] for name in ("step", "epoch", "loss", "learning_rate")} for point in found] == [
        {name: report[name] for name in ("step", "epoch", "loss", "learning_rate")} for report in reports
    ]
    assert all(point["pairs_per_s"] > 0 for point in found[1:])
    assert points(folder, after=4) == found[4:]


def test_a_run_that_goes_on_replaces_the_steps_behind_its_checkpoint(
    blobs_of_colour: TrainingData, tmp_path: Path
) -> None:
    whole, folder, checkpoint = RunFolder(tmp_path / "whole"), RunFolder(tmp_path), tmp_path / "checkpoint.pt"
    whole.path.mkdir()
    trained(blobs_of_colour, RecordHistory(whole), Hook(), epochs=3)
    with pytest.raises(Killed):
        trained(blobs_of_colour, RecordHistory(folder), KillAt(5), epochs=3, checkpoint=checkpoint)
    with open(folder.history, "a") as lines:
        lines.write('{"step": 6, "epo')
    assert [point["step"] for point in points(folder)] == [1, 2, 3, 4, 5], "of which 4 are in the checkpoint"
    folder.go_back(4)
    trained(blobs_of_colour, RecordHistory(folder), Hook(), epochs=3, checkpoint=checkpoint)
    assert [(point["step"], point["loss"]) for point in points(folder)] == [
        (point["step"], point["loss"]) for point in points(whole)
    ]


def test_a_long_run_keeps_few_points_that_span_it(
    clip_mini: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "MAX_POINTS", 20)
    folder = RunFolder(tmp_path)
    recorder = RecordHistory(folder)
    for last, expected in (
        (20, range(1, 21)),
        (21, range(2, 21, 2)),
        (40, range(2, 41, 2)),
        (1000, range(64, 1000, 64)),
    ):
        took(recorder, clip_mini, range(points(folder)[-1]["step"] + 1 if points(folder) else 1, last + 1))
        assert [point["step"] for point in points(folder)] == [*expected]
        assert len(points(folder)) <= 20
    assert points(folder)[-1]["loss"] == sum(range(897, 961)) / 64, "the mean of the steps since the point before"


def test_the_losses_since_the_last_point_are_in_the_checkpoint(
    clip_mini: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "MAX_POINTS", 4)
    first, again = RecordHistory(RunFolder(tmp_path)), RecordHistory(RunFolder(tmp_path))
    took(first, clip_mini, range(1, 14))
    state = json.loads(json.dumps(first.state()))
    assert state == {"losses": [13.0]}
    again.restore(state)
    took(again, clip_mini, range(14, 17))
    assert points(RunFolder(tmp_path))[-1] == {
        "step": 16, "epoch": 1, "loss": 14.5, "learning_rate": 1e-3, "pairs_per_s": 9.0,
    }  # fmt: skip


def test_the_distance_of_points_is_what_bounds_them() -> None:
    for step in (*range(0, 20_000, 7), 2000, 2001, 4000, 4001, 2**40):
        distance = 1
        while step > distance * 2000:
            distance *= 2
        assert steps_per_point(step) == distance


def test_evaluations_are_merged_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    assert read_history(folder) == {"steps": [], "evaluations": []}
    folder.write("scores", {"before": {"recall": 0.1}, "after": {"recall": 0.6, "guard": 0.9}})
    folder.metrics.write_text(
        "".join(
            json.dumps({"step": step, "epoch": step // 2, "val_loss": loss}) + "\n"
            for step, loss in ((1, None), (2, 3.0), (3, None), (4, 2.0))
        )
    )
    entries = [{"step": step, "epoch": step // 2, "metrics": {"recall": step / 10}} for step in (3, 4, 4)]
    folder.evaluations.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"step": 5')
    expected = [
        {"step": 0, "epoch": 0, "metrics": {"recall": 0.1}},
        {"step": 2, "epoch": 1, "metrics": {"val_loss": 3.0}},
        {"step": 3, "epoch": 1, "metrics": {"recall": 0.3}},
        {"step": 4, "epoch": 2, "metrics": {"recall": 0.4, "val_loss": 2.0, "guard": 0.9}},
    ]
    assert read_history(folder)["evaluations"] == expected
    assert read_history(folder, after=4)["evaluations"] == expected[3:], "more may have come since step 4 was seen"
    monkeypatch.setattr(history, "MAX_EVALUATIONS", 2)
    assert read_history(folder)["evaluations"] == [expected[1], expected[3]]


def test_the_endpoint_gives_the_history_of_a_run(
    trainer: Trainer, ask: Callable[..., Any], work: Callable[..., tuple[int, RunFolder]]
) -> None:
    code, folder = work(run_name="charted", eval_data="pairs", val_split=0.25, epochs=2)
    assert code == 0
    found = ask(trainer.history_of_run, name="charted")
    last = found["steps"][-1]["step"]
    assert [point["step"] for point in found["steps"]] == [*range(1, last + 1)]
    assert [(entry["step"], entry["epoch"]) for entry in found["evaluations"]] == [(0, 0), (last // 2, 1), (last, 2)]
    assert set(found["evaluations"][2]["metrics"]) == {"val_loss", *found["evaluations"][0]["metrics"]}
    rest = ask(trainer.history_of_run, name="charted", after=float(last))
    assert rest == {"steps": [], "evaluations": found["evaluations"][2:]}
    with pytest.raises(InvalidInput, match="'after' must be in"):
        ask(trainer.history_of_run, name="charted", after=-1)
    with pytest.raises(RunNotFound):
        ask(trainer.history_of_run, name="nobody")
    folder.start_over()
    assert not folder.history.exists()
