"""The training loop, the same for every task: steps, epochs, reports, and going on after a kill."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError
from finetuner.models.pixels import normalised

from ..data.ahead import ahead
from ..data.crops import augment
from ..hooks.hook import Hook, Progress
from .batch_size import find_batch_size, memory_of
from .checkpoint import Checkpoint, random_state, restore_random_state
from .grad_cache import cached_backward
from .interrupt import EXIT_CODE, Interrupt
from .optimization import learning_rate_factor
from .task import Batch, Outputs, Task

LINES_PER_EPOCH = 5
SURELY_FITS = 32  # pairs; more at once are measured

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Step:
    """What is reported of a step, or of the validation after an epoch."""

    step: int
    """From 1, over the whole run."""
    epoch: int
    """From 1."""
    loss: float
    """Mean since the last report; nats for InfoNCE."""
    learning_rate: float
    pairs_per_second: float
    data_wait: float
    """Share of the time, in [0, 1], in which training waited for data."""
    memory: int
    """Bytes: the process's on a CPU, the most that PyTorch took on a GPU."""
    val_loss: float | None = None
    """After the last step of an epoch, where validation data is held out."""


class Training:
    """Tunes a task's model in place.

    Args:
        task: model, data and loss.
        progress: of the run; hooks see it.
        config: epochs, scheduler, precision, seed, training options.
        learning_rate: peak.
        report: gets a `Step` as a dict, some times an epoch.
        hooks: called after each step and each epoch; one may ask to end training.
        checkpoint: is written after each epoch and when it is due; None keeps nothing.
        state: to go on from, as `checkpoint` has read it; None starts at the beginning.
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
        hooks: Sequence[Hook] = (),
        checkpoint: Checkpoint | None = None,
        state: Mapping[str, Any] | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._task = task
        self._progress = progress
        self._config = config
        self._options = config.options
        self._report = report
        self._hooks = hooks
        self._checkpoint = checkpoint
        self._interrupt = interrupt or Interrupt()
        self._device = task.model.device
        set_seed(config.seed)
        self._order = np.random.default_rng(config.seed)
        self._order_state = self._order.bit_generator.state
        """Of the epoch under way, before its plan was drawn."""
        self._crops = torch.Generator().manual_seed(config.seed)
        precision = "no" if (kind := mixed_precision(config.precision, self._device)) == "fp32" else kind
        self._accelerator = Accelerator(cpu=self._device.type == "cpu", mixed_precision=precision)
        if self._options.gradient_checkpointing:
            task.allow_gradient_checkpointing()
        if self._options.compile:
            task.network.compile()
        self._network = self._accelerator.prepare(task.network)
        self._optimizers = [self._accelerator.prepare(optimizer) for optimizer in task.optimizers(learning_rate)]
        self._steps = task.steps_per_epoch * config.epochs
        factor = learning_rate_factor(config.scheduler, config.scheduler_options, self._steps, config.epochs)
        self._schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, factor) for optimizer in self._optimizers
        ]
        preprocess = task.model.preprocess_config
        self._mean, self._std = (self._channels(values) for values in (preprocess.mean, preprocess.std))
        self._micro_batch = self._options.micro_batch_size
        self._epoch, self._batches_done = 1, 0
        self._losses: list[float] = []
        self._epoch_losses: list[float] = []
        self._begun = self._since = time.perf_counter()
        self._waited, self._seen, self._first_step = 0.0, 0, 0
        if state is not None:
            self._restore(state)

    def run(self) -> None:
        """Train until the last epoch, or until a hook ends it; the network is in eval mode afterwards.

        Raises:
            FinetunerError: the loss is not finite.
            SystemExit: the process was asked to end.
        """
        if self._micro_batch is None:
            self._micro_batch = self._measured_batch()
        log.info(
            "Finetuning: %s, %d epochs of %d steps of %d %s%s, %s, learning rate %g, %s",
            self._task.summary(),
            self._config.epochs,
            self._task.steps_per_epoch,
            self._task.batch_size,
            self._task.unit,
            f", {self._micro_batch} at once" if self._micro_batch < self._task.batch_size else "",
            self._config.optimizer,
            self._schedulers[0].base_lrs[0],
            {"no": "fp32"}.get(self._accelerator.mixed_precision, self._accelerator.mixed_precision),
        )
        self._begun = self._since = time.perf_counter()
        with self._interrupt.deferred():
            while self._epoch <= self._config.epochs and not self._progress.stop:
                self._train_epoch()
        self._task.network.eval()
        if self._progress.stop:
            log.info("%s", self._progress.stop)

    def _train_epoch(self) -> None:
        self._order_state = self._order.bit_generator.state
        plan = self._task.plan(self._order)
        self._progress.epoch = self._epoch
        self._network.train()
        for batch in self._timed(ahead(map(self._fetch, plan[self._batches_done :]))):
            self._step(batch)
            self._batches_done += 1
            self._progress.step += 1
            if self._batches_done < len(plan):
                if self._batches_done % max(len(plan) // LINES_PER_EPOCH, 1) == 0:
                    self._report_step(None)
                self._call(hook.after_step for hook in self._hooks)
                self._save(only_if_due=True)
        val_loss = self._validation_loss()
        self._report_step(val_loss)
        self._call(hook.after_step for hook in self._hooks)
        self._network.eval()
        loss = sum(self._epoch_losses) / len(self._epoch_losses)
        self._progress.values |= {"loss": loss, "train_loss": loss}
        if val_loss is not None:
            self._progress.values["val_loss"] = val_loss
        self._call(hook.after_epoch for hook in self._hooks)
        self._epoch, self._batches_done, self._epoch_losses = self._epoch + 1, 0, []
        self._order_state = self._order.bit_generator.state
        self._save()

    def _fetch(self, planned: Any) -> Batch:
        return self._task.fetch(planned, self._accelerator.process_index, self._accelerator.num_processes)

    def _step(self, batch: Batch) -> None:
        value = self._mean_of_processes(self._backward(batch))
        rate = float(self._schedulers[0].get_last_lr()[0])
        if not math.isfinite(value):
            raise FinetunerError(
                f"loss must be finite. Got {value} at step {self._progress.step + 1}, learning rate {rate:g}. "
                f"Lower the learning rate. The batch begins with {batch.described}"
            )
        for optimizer, scheduler in zip(self._optimizers, self._schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        self._task.after_step()
        self._losses.append(value)
        self._epoch_losses.append(value)
        self._seen += len(batch) * self._accelerator.num_processes
        self._progress.values |= {"loss": value, "learning_rate": rate}

    def _backward(self, batch: Batch) -> torch.Tensor:
        """Add a batch's gradient to the parameters'; return its loss."""
        (images, *others), keys = self._on_device(batch)
        images = augment(images, self._crops, crop_scale=self._options.crop_scale, flips=self._options.flips)
        inputs = (images, *others)
        if self._micro_batch is None or self._micro_batch >= len(batch):
            loss = self._task.loss(self._network(*inputs), keys)
            self._accelerator.backward(loss)
            return loss.detach()
        return cached_backward(
            lambda chunk: self._network(*chunk),
            list(zip(*(torch.split(tensor, self._micro_batch) for tensor in inputs), strict=True)),
            lambda *outputs: self._task.loss(outputs, keys),
            loss_parameters=self._task.loss_parameters(),
            backward=self._accelerator.backward,
            no_sync=partial(self._accelerator.no_sync, self._network),
        )

    def _on_device(self, batch: Batch) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return what the network takes, the images normalised, and what the loss takes beside its outputs."""
        images = normalised(batch.pixels.to(self._device, non_blocking=True), self._mean, self._std)
        inputs, keys = (tuple(tensor.to(self._device) for tensor in side) for side in (batch.inputs, batch.keys))
        return (images, *inputs), keys

    def _measured_batch(self) -> int:
        """Return how much of a batch fits into memory at once, by trying; what trying changes is put back."""
        whole: int = -(-self._task.batch_size // self._accelerator.num_processes)
        if whole <= SURELY_FITS:
            return whole
        saved, random, crops = deepcopy(self._task.network.state_dict()), random_state(), self._crops.get_state()
        batch = self._fetch(self._task.plan(np.random.default_rng(0))[0])
        self._network.train()

        def try_step(size: int) -> None:
            with self._accelerator.no_sync(self._network):
                self._backward(batch.first(size))
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)

        fits = find_batch_size(try_step, memory_of(self._device), whole, smallest=2)
        self._task.network.load_state_dict(saved)
        restore_random_state(random)
        self._crops.set_state(crops)
        least: torch.Tensor = -self._accelerator.reduce(torch.tensor([-fits], device=self._device), "max")
        return round(float(least))

    def _mean_of_processes(self, value: torch.Tensor) -> float:
        return float(self._accelerator.reduce(value, "mean").item())

    def _validation_loss(self) -> float | None:
        plan = self._task.held_out()
        if not plan:
            return None
        network = self._task.network.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)  # loss times pairs, pairs
        own = plan[self._accelerator.process_index :: self._accelerator.num_processes]
        with torch.inference_mode():
            for batch in map(self._task.fetch, own):
                inputs, keys = self._on_device(batch)
                outputs: Outputs = network(*inputs)
                loss = self._task.loss(outputs, keys, validation=True)
                sums += torch.tensor([loss.item() * len(batch), len(batch)], device=self._device)
        network.train()
        total, count = self._accelerator.reduce(sums, "sum").tolist()
        return float(total / count)

    def _report_step(self, val_loss: float | None) -> None:
        now, done = time.perf_counter(), self._progress.step
        seconds = now - self._since
        entry = Step(
            step=done,
            epoch=self._epoch,
            loss=sum(self._losses) / len(self._losses),
            learning_rate=self._progress.values["learning_rate"],
            pairs_per_second=self._seen / seconds,
            data_wait=min(self._waited / seconds, 1.0),
            memory=memory_in_use(self._device),
            val_loss=val_loss,
        )
        self._progress.values["pairs_per_second"] = entry.pairs_per_second
        self._report(asdict(entry))
        log.info(
            "Epoch %d/%d - step %d/%d - loss %.4f%s - %.0f %s/s - waited for data %.0f%% - %.1f GB - ETA %.0f s",
            entry.epoch,
            self._config.epochs,
            done,
            self._steps,
            entry.loss,
            "" if val_loss is None else f" - val_loss {val_loss:.4f}",
            entry.pairs_per_second,
            self._task.unit,
            100 * entry.data_wait,
            entry.memory / 1e9,
            (now - self._begun) / (done - self._first_step) * (self._steps - done),
        )
        self._losses, self._seen, self._waited, self._since = [], 0, 0.0, time.perf_counter()

    def _timed(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Yield the same; what is waited for each counts as waiting for data."""
        source = iter(batches)
        while True:
            started = time.perf_counter()
            batch = next(source, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def _call(self, moments: Iterable[Callable[[Progress], None]]) -> None:
        """Call hooks; the seconds that they take do not count as training."""
        started = time.perf_counter()
        for moment in moments:
            moment(self._progress)
        self._since += time.perf_counter() - started

    def _save(self, *, only_if_due: bool = False) -> None:
        asked, started = self._interrupt.asked, time.perf_counter()
        if self._checkpoint is not None and (asked or self._checkpoint.is_due or not only_if_due):
            self._checkpoint.write(self._state())
        self._since += time.perf_counter() - started
        if asked:
            log.info("Interrupted after step %d", self._progress.step)
            raise SystemExit(EXIT_CODE)

    def _state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {
            "step": self._progress.step,
            "epoch": self._epoch,
            "batches_done": self._batches_done,
            "network": self._task.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
            "scaler": None if scaler is None else scaler.state_dict(),
            "order": json.dumps(self._order_state),
            "crops": self._crops.get_state(),
            "random": random_state(),
            "losses": self._losses,
            "epoch_losses": self._epoch_losses,
            "values": self._progress.values,
            "stop": self._progress.stop,
            "hooks": [hook.state() for hook in self._hooks],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._task.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self._epoch, self._batches_done = state["epoch"], state["batches_done"]
        self._order.bit_generator.state = json.loads(state["order"])
        self._crops.set_state(state["crops"])
        restore_random_state(state["random"])
        self._losses, self._epoch_losses = list(state["losses"]), list(state["epoch_losses"])
        self._progress.step = self._first_step = state["step"]
        self._progress.epoch = self._epoch if self._batches_done else self._epoch - 1
        self._progress.values, self._progress.stop = dict(state["values"]), state["stop"]
        for hook, saved in zip(self._hooks, state["hooks"], strict=True):
            hook.restore(saved)
        log.info("Going on from step %d of %d", self._progress.step, self._steps)

    def _channels(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=self._device).view(1, 3, 1, 1)


def mixed_precision(precision: str, device: torch.device) -> str:
    """Return 'fp32', 'bf16' or 'fp16' for a run; 'auto' is bf16 where the GPU has it, fp32 elsewhere.

    Raises:
        FinetunerError: 'fp16' on a CPU, whose kernels lack it.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise FinetunerError("precision must be 'fp32' or 'bf16' on a CPU. Got 'fp16'. Leave it out.")
    return precision


def memory_in_use(device: torch.device) -> int:
    """Return bytes: the most that PyTorch has taken of a GPU, or what the process takes now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)
