"""The curve of a run: every step once, also after a kill; bounded length; evaluations merged by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.exceptions import InvalidInput, RunNotFound
from finetuner.executors.trainer import curve
from finetuner.executors.trainer.curve import CurveFile, has_point, read_curve, steps_per_point
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.run_folder import RunFolder
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
    return read_curve(folder, after)["steps"]


def write(file: CurveFile, steps: range, epoch_ends: int = 0) -> None:
    """Write the points of these steps; each `epoch_ends`-th step has a validation loss."""
    for step in steps:
        val_loss = step / 10 if epoch_ends and step % epoch_ends == 0 else None
        if has_point(step, val_loss):
            file.add({"step": step, "epoch": 1 + step // 1000, "val_loss": val_loss})


def test_each_step_of_a_short_run_is_a_point(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    _, reports = trained(blobs_of_colour, epochs=3, val_split=0.5, batch_size=2, curve=CurveFile(folder))
    found = points(folder)
    assert found == reports
    assert [point["step"] for point in found] == [*range(1, found[-1]["step"] + 1)]
    assert all(point["pairs_per_second"] > 0 and 0 <= point["data_wait"] <= 1 < point["memory"] for point in found)
    assert len([point for point in found if point["val_loss"] is not None]) == 3
    assert points(folder, after=2) == found[2:]


def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    whole, folder, checkpoint = RunFolder(tmp_path / "whole"), RunFolder(tmp_path), tmp_path / "checkpoint.pt"
    whole.path.mkdir()
    trained(blobs_of_colour, Hook(), epochs=3, curve=CurveFile(whole))
    with pytest.raises(Killed):
        trained(blobs_of_colour, KillAt(5), epochs=3, checkpoint=checkpoint, curve=CurveFile(folder))
    with open(folder.curve, "a") as lines:
        lines.write('{"step": 6, "epo')
    assert [point["step"] for point in points(folder)] == [1, 2, 3, 4, 5], "of which 4 are in the checkpoint"
    folder.go_back(4)
    trained(blobs_of_colour, Hook(), epochs=3, checkpoint=checkpoint, curve=CurveFile(folder))
    assert [(point["step"], point["loss"]) for point in points(folder)] == [
        (point["step"], point["loss"]) for point in points(whole)
    ]


def test_a_long_run_keeps_few_points_that_span_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "MAX_POINTS", 20)
    folder, written = RunFolder(tmp_path), 0
    file = CurveFile(folder)
    for last, expected in (
        (20, range(1, 21)),
        (22, range(2, 23, 2)),
        (40, range(2, 41, 2)),
        (1000, range(64, 1000, 64)),
    ):
        write(file, range(written + 1, last + 1))
        written = last
        assert [point["step"] for point in points(folder)] == [*expected]


def test_validation_losses_stay_however_long_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "MAX_POINTS", 20)
    folder = RunFolder(tmp_path)
    write(CurveFile(folder), range(1, 501), epoch_ends=75)
    write(CurveFile(folder), range(501, 1001), epoch_ends=75)  # a resumed run opens the file anew
    ends = [*range(75, 1001, 75)]
    assert [point["step"] for point in points(folder)] == sorted({*ends, *range(64, 1001, 64)})
    found = read_curve(folder)["evaluations"]
    assert [(entry["step"], entry["metrics"]["val_loss"]) for entry in found] == [(step, step / 10) for step in ends]


def test_a_point_is_the_mean_since_the_point_before_also_when_resumed(
    blobs_of_colour: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, each = trained(blobs_of_colour, epochs=4)
    monkeypatch.setattr(curve, "MAX_POINTS", 2)
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        trained(blobs_of_colour, KillAt(7), epochs=4, checkpoint=checkpoint)
    _, found = trained(blobs_of_colour, Hook(), epochs=4, checkpoint=checkpoint)
    assert [point["step"] for point in found] == [8], "the checkpoint is of step 6, after the points 1, 2 and 4"
    assert found[0]["loss"] == sum(point["loss"] for point in each[4:]) / 4


def test_the_distance_of_points_is_what_bounds_them() -> None:
    for step in (*range(0, 20_000, 7), 2000, 2001, 4000, 4001, 2**40):
        distance = 1
        while step > distance * 2000:
            distance *= 2
        assert steps_per_point(step) == distance


def test_evaluations_are_merged_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    assert read_curve(folder) == {"steps": [], "evaluations": []}
    folder.write("scores", {"before": {"recall": 0.1}, "after": {"recall": 0.6, "guard": 0.9}})
    folder.curve.write_text(
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
    assert read_curve(folder)["evaluations"] == expected
    assert read_curve(folder, after=4)["evaluations"] == expected[3:], "more may have come since step 4 was seen"
    monkeypatch.setattr(curve, "MAX_EVALUATIONS", 2)
    assert read_curve(folder)["evaluations"] == [expected[1], expected[3]]


def test_the_scores_of_the_published_weights_are_at_the_last_evaluation(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write("scores", {"after": {"guard": 0.9}})
    folder.curve.write_text(json.dumps({"step": 4, "epoch": 2, "val_loss": None}) + "\n")
    folder.evaluations.write_text(json.dumps({"step": 5, "epoch": 2, "metrics": {"recall": 0.4}}) + "\n")
    expected = [{"step": 5, "epoch": 2, "metrics": {"recall": 0.4, "guard": 0.9}}]
    assert read_curve(folder)["evaluations"] == expected, "step 5 may have no point in a long run"


def test_the_endpoint_answers_with_the_curve_of_a_run(
    trainer: Trainer, ask: Callable[..., Any], work: Callable[..., tuple[int, RunFolder]]
) -> None:
    code, folder = work(run_name="charted", eval_data="pairs", val_split=0.25, epochs=2)
    assert code == 0
    found = ask(trainer.metrics_of_run, name="charted")
    last = found["steps"][-1]["step"]
    assert [point["step"] for point in found["steps"]] == [*range(1, last + 1)]
    assert [(entry["step"], entry["epoch"]) for entry in found["evaluations"]] == [(0, 0), (last // 2, 1), (last, 2)]
    assert set(found["evaluations"][2]["metrics"]) == {"val_loss", *found["evaluations"][0]["metrics"]}
    rest = ask(trainer.metrics_of_run, name="charted", after=float(last))
    assert rest == {**found, "steps": [], "evaluations": found["evaluations"][2:]}
    with pytest.raises(InvalidInput, match="'after' must be in"):
        ask(trainer.metrics_of_run, name="charted", after=-1)
    with pytest.raises(RunNotFound):
        ask(trainer.metrics_of_run, name="nobody")
    folder.start_over()
    assert not folder.curve.exists()
