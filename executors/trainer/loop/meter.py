"""Measures a training: loss, speed, waiting for data and memory, for the run's curve and its log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from ..hooks.hook import Progress
from .task import Batch

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Step:
    """One point of a run's curve: means since the point before."""

    step: int
    """From 1, over the whole run."""
    epoch: int
    """From 1."""
    loss: float
    """Mean; nats for InfoNCE."""
    learning_rate: float
    """Of this step."""
    pairs_per_second: float
    """Pairs or images a second. Validation, hooks and checkpoints do not count."""
    data_wait: float
    """Share of the time, in [0, 1], that training spent waiting for data."""
    memory: int
    """Bytes. On a CPU: resident memory of the process now. On a GPU: PyTorch's peak so far."""
    val_loss: float | None = None
    """Validation loss, at the last step of an epoch. None without validation data."""


@dataclass
class Window:
    """Losses, pairs and seconds since the window was opened."""

    since: float
    """Reading of `time.perf_counter`, moved on by pauses."""
    losses: list[float] = field(default_factory=list)
    pairs: int = 0
    waited: float = 0.0
    """Seconds spent waiting for data."""


class Meter:
    """Measures over two windows: since the last point of the curve, and since the last line of the log.

    Args:
        device: of the network.
        unit: of the items in a batch, in the plural: 'pairs' or 'images'.
        steps: of the whole run.
        epochs: of the whole run.
    """

    def __init__(self, device: torch.device, unit: str, steps: int, epochs: int) -> None:
        self._device = device
        self._unit = unit
        self._steps = steps
        self._epochs = epochs
        self._started = time.perf_counter()
        self._point, self._line = Window(self._started), Window(self._started)
        self._first_step = 0

    def start(self, step: int) -> None:
        """Start the clock.

        Args:
            step: last step before the clock starts, 0 for a new run.
        """
        self._first_step = step
        self._started = self._point.since = self._line.since = time.perf_counter()

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches; count the seconds until each arrives as waiting for data."""
        source = iter(batches)
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            seconds = time.perf_counter() - started
            self._point.waited += seconds
            self._line.waited += seconds
            if batch is None:
                return
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the block's seconds from the time of training."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self._point.since += seconds
            self._line.since += seconds

    def add(self, loss: float, pairs: int) -> None:
        """Add one step."""
        for window in (self._point, self._line):
            window.losses.append(loss)
            window.pairs += pairs

    def read_point(self, progress: Progress, val_loss: float | None) -> Step:
        """Return the next point of the curve and open a new window."""
        point = self._read(self._point, progress, val_loss)
        self._point = Window(time.perf_counter())
        return point

    def log_line(self, progress: Progress, val_loss: float | None) -> None:
        """Log the next line and open a new window."""
        line = self._read(self._line, progress, val_loss)
        elapsed, done = time.perf_counter() - self._started, progress.step
        log.info(
            "Epoch %d/%d - step %d/%d - loss %.4f%s - %.0f %s/s - waited for data %.0f%% - %.1f GB - ETA %.0f s",
            line.epoch,
            self._epochs,
            done,
            self._steps,
            line.loss,
            "" if val_loss is None else f" - val_loss {val_loss:.4f}",
            line.pairs_per_second,
            self._unit,
            100 * line.data_wait,
            line.memory / 1e9,
            elapsed / (done - self._first_step) * (self._steps - done),
        )
        self._line = Window(time.perf_counter())

    def state(self) -> dict[str, list[float]]:
        """Return the losses of both windows, for a checkpoint."""
        return {"point": self._point.losses, "line": self._line.losses}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the losses of both windows. Their pairs and seconds start anew."""
        self._point.losses, self._line.losses = list(state["point"]), list(state["line"])

    def _read(self, window: Window, progress: Progress, val_loss: float | None) -> Step:
        seconds = time.perf_counter() - window.since
        return Step(
            step=progress.step,
            epoch=progress.epoch,
            loss=sum(window.losses) / len(window.losses),
            learning_rate=progress.values["learning_rate"],
            pairs_per_second=window.pairs / seconds,
            data_wait=min(window.waited / seconds, 1.0),
            memory=memory_in_use(self._device),
            val_loss=val_loss,
        )


def memory_in_use(device: torch.device) -> int:
    """Return bytes: PyTorch's peak on a GPU, the resident memory of this process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)
