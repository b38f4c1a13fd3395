"""The meter of the training loop, with a clock that only moves when told to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.loop import meter
from finetuner.executors.trainer.loop.meter import Meter


class Clock:
    """Replaces the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(meter, "time", made)
    return made


def progress_at(step: int) -> Progress:
    model: Any = None
    return Progress(model, epoch=1, step=step, values={"learning_rate": 1e-3})


def trained(measured: Meter, clock: Clock, losses: list[float]) -> None:
    """Take a step of 4 pairs for each loss: 1 s of waiting for data, 3 s of computing."""

    def batches() -> Iterator[Any]:
        for _ in losses:
            clock.now += 1
            yield "a batch"

    for loss, _ in zip(losses, measured.waiting(batches()), strict=True):
        clock.now += 3
        measured.add(loss, 4)


def test_a_point_measures_the_steps_since_the_point_before(clock: Clock) -> None:
    measured = Meter(torch.device("cpu"), "pairs", 10, 2)
    clock.now += 50  # before the start
    measured.start(0)
    trained(measured, clock, [2.0, 4.0])
    first = measured.read_point(progress_at(2), None)
    assert (first.step, first.epoch, first.loss, first.learning_rate, first.val_loss) == (2, 1, 3.0, 1e-3, None)
    assert (first.pairs_per_second, first.data_wait) == (1.0, 0.25)
    assert first.memory > 1e6
    trained(measured, clock, [8.0])
    second = measured.read_point(progress_at(3), 7.0)
    assert (second.loss, second.pairs_per_second, second.val_loss) == (8.0, 1.0, 7.0)


def test_paused_seconds_do_not_count(clock: Clock) -> None:
    measured = Meter(torch.device("cpu"), "pairs", 10, 2)
    measured.start(0)
    trained(measured, clock, [2.0])
    with measured.paused():
        clock.now += 1000
    assert measured.read_point(progress_at(1), None).pairs_per_second == 1.0


def test_a_line_of_the_log_covers_several_points(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "finetuner")
    measured = Meter(torch.device("cpu"), "images", 10, 2)
    measured.start(4)
    for step, loss in ((5, 1.0), (6, 2.0)):
        trained(measured, clock, [loss])
        measured.read_point(progress_at(step), None)
    measured.log_line(progress_at(6), 0.5)
    assert "Epoch 1/2 - step 6/10 - loss 1.5000 - val_loss 0.5000 - 1 images/s - waited for data 25%" in caplog.text
    assert caplog.text.rstrip().endswith("ETA 16 s"), "8 s for two steps of this process, four to go"


def test_the_losses_of_both_windows_are_restored(clock: Clock) -> None:
    first, second = (Meter(torch.device("cpu"), "pairs", 10, 2) for _ in range(2))
    first.start(0)
    trained(first, clock, [1.0])
    first.read_point(progress_at(1), None)
    trained(first, clock, [2.0])
    assert first.state() == {"point": [2.0], "line": [1.0, 2.0]}
    second.restore(first.state())
    second.start(2)
    trained(second, clock, [4.0])
    assert second.read_point(progress_at(3), None).loss == 3.0
    assert second.state() == {"point": [], "line": [1.0, 2.0, 4.0]}
