"""The training loop of every task: epochs, steps, reports, checkpoints, and resuming after a kill."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError

from ..curve import has_point
from ..data.prefetch import prefetched
from ..hooks.hook import Hook, Progress
from .checkpoint import Checkpoint, random_state, restore_random_state
from .interrupt import EXIT_CODE, Interrupt
from .learner import Learner
from .meter import Meter
from .task import Batch, Task

LINES_PER_EPOCH = 5

log = logging.getLogger("finetuner")


class Training:
    """Tunes a task's model in place.

    Args:
        task: model, data and loss.
        progress: of the run; hooks see it.
        config: epochs, scheduler, precision, seed, training options.
        learning_rate: peak.
        report: receives each point of the run's curve: a `Step` as a dict.
        started: receives the options in force before the first step, see `Learner.resolved`.
        hooks: called after each step and each epoch; one may ask to end training.
        checkpoint: written after each epoch and when it is due; None keeps nothing.
        state: contents of the checkpoint to resume from; None starts at the beginning.
        interrupt: ends the process after a step, with a checkpoint.
    """

    def __init__(
        self,
        task: Task,
        progress: Progress,
        config: RunConfig,
        *,
        learning_rate: float,
        report: Callable[[dict[str, Any]], None],
        started: Callable[[dict[str, Any]], None] = lambda resolved: None,
        hooks: Sequence[Hook] = (),
        checkpoint: Checkpoint | None = None,
        state: Mapping[str, Any] | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._task = task
        self._progress = progress
        self._config = config
        self._report = report
        self._started = started
        self._hooks = hooks
        self._checkpoint = checkpoint
        self._interrupt = interrupt or Interrupt()
        set_seed(config.seed)
        self._order = np.random.default_rng(config.seed)
        self._order_state = self._order.bit_generator.state
        """Of the current epoch, before its plan was drawn."""
        self._steps = task.steps_per_epoch * config.epochs
        self._learner = Learner(task, config, learning_rate)
        self._meter = Meter(self._learner.device, task.unit, self._steps, config.epochs)
        self._epoch, self._batches_done = 1, 0
        self._epoch_losses: list[float] = []
        if state is not None:
            self._restore(state)

    def run(self) -> None:
        """Train until the last epoch, or until a hook ends it; the network is in eval mode afterwards.

        Raises:
            FinetunerError: the loss is not finite.
            SystemExit: the process was asked to end.
        """
        at_once = self._learner.find_micro_batch()
        self._started(self._learner.resolved)
        log.info(
            "Finetuning: %s, %d epochs of %d steps of %d %s%s, %s, learning rate %g, %s",
            self._task.summary(),
            self._config.epochs,
            self._task.steps_per_epoch,
            self._task.batch_size,
            self._task.unit,
            f", {at_once} at once" if at_once < self._task.rows_per_step else "",
            self._config.optimizer,
            self._learner.peak_rate,
            self._learner.precision,
        )
        self._meter.start(self._progress.step)
        with self._interrupt.deferred():
            while self._epoch <= self._config.epochs and not self._progress.stop:
                self._train_epoch()
        self._task.network.eval()
        if self._progress.stop:
            log.info("%s", self._progress.stop)

    def _train_epoch(self) -> None:
        self._order_state = self._order.bit_generator.state
        plan = self._task.plan(self._order)
        with self._meter.paused():
            plan = self._task.arrange(plan, self._epoch)
        self._progress.epoch = self._epoch
        self._learner.train()
        for batch in self._meter.waiting(prefetched(map(self._learner.fetch, plan[self._batches_done :]))):
            self._step(batch)
            self._batches_done += 1
            self._progress.step += 1
            if self._batches_done < len(plan):
                self._measure(line=self._batches_done % max(len(plan) // LINES_PER_EPOCH, 1) == 0)
                self._call(hook.after_step for hook in self._hooks)
                self._save(only_if_due=True)
        with self._meter.paused():
            val_loss = self._learner.validation_loss()
        self._measure(val_loss, line=True)
        self._call(hook.after_step for hook in self._hooks)
        self._learner.eval()
        loss = sum(self._epoch_losses) / len(self._epoch_losses)
        self._progress.values |= {"loss": loss, "train_loss": loss}
        if val_loss is not None:
            self._progress.values["val_loss"] = val_loss
        self._call(hook.after_epoch for hook in self._hooks)
        self._epoch, self._batches_done, self._epoch_losses = self._epoch + 1, 0, []
        self._order_state = self._order.bit_generator.state
        self._save()

    def _step(self, batch: Batch) -> None:
        rate = self._learner.learning_rate
        loss = self._learner.backward(batch)
        if not math.isfinite(loss):
            raise FinetunerError(
                f"loss must be finite. Got {loss} at step {self._progress.step + 1}, learning rate {rate:g}. "
                f"Lower the learning rate. The batch begins with {batch.described}"
            )
        self._learner.update()
        self._meter.add(loss, len(batch) * self._learner.processes)
        self._epoch_losses.append(loss)
        self._progress.values |= {"loss": loss, "learning_rate": rate}

    def _measure(self, val_loss: float | None = None, *, line: bool) -> None:
        """Report a point of the curve if one is due, and log a line if `line`."""
        if has_point(self._progress.step, val_loss):
            point = self._meter.read_point(self._progress, val_loss)
            self._progress.values["pairs_per_second"] = point.pairs_per_second
            self._report(asdict(point))
        if line:
            self._meter.log_line(self._progress, val_loss)

    def _call(self, moments: Iterable[Callable[[Progress], None]]) -> None:
        with self._meter.paused():
            for moment in moments:
                moment(self._progress)

    def _save(self, *, only_if_due: bool = False) -> None:
        asked = self._interrupt.asked
        with self._meter.paused():
            if self._checkpoint is not None and (asked or self._checkpoint.is_due or not only_if_due):
                self._checkpoint.write(self._state())
        if asked:
            log.info("Interrupted after step %d", self._progress.step)
            raise SystemExit(EXIT_CODE)

    def _state(self) -> dict[str, Any]:
        return {
            **self._learner.state(),
            "step": self._progress.step,
            "epoch": self._epoch,
            "batches_done": self._batches_done,
            "order": json.dumps(self._order_state),
            "task": self._task.state(),
            "random": random_state(),
            "losses": self._meter.state(),
            "epoch_losses": self._epoch_losses,
            "values": self._progress.values,
            "stop": self._progress.stop,
            "hooks": [hook.state() for hook in self._hooks],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._learner.restore(state)
        self._task.restore(state.get("task", {}))
        self._epoch, self._batches_done = state["epoch"], state["batches_done"]
        self._order.bit_generator.state = json.loads(state["order"])
        restore_random_state(state["random"])
        self._meter.restore(state["losses"])
        self._epoch_losses = list(state["epoch_losses"])
        self._progress.step = state["step"]
        self._progress.epoch = self._epoch if self._batches_done else self._epoch - 1
        self._progress.values, self._progress.stop = dict(state["values"]), state["stop"]
        for hook, saved in zip(self._hooks, state["hooks"], strict=False):  # an earlier version has fewer, at the end
            hook.restore(saved)
        log.info("Resuming from step %d of %d", self._progress.step, self._steps)
