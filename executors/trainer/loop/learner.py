"""Trains a task's network on this process's device: one step, the validation loss, and the state of both."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator

from finetuner.config.optimizer_config import LAYER_DECAY
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError
from finetuner.models.acceleration import compile_network
from finetuner.models.pixels import normalised

from ..data.crops import augment
from .grad_cache import cached_backward
from .memory_probe import probe_micro_batch
from .optimization import PullToStart, learning_rate_factor, resolved_options, resolved_schedule
from .task import Batch, Outputs, Task

Result = TypeVar("Result")
SURELY_FITS = 32
"""Pairs that fit into the memory of any machine. Only larger batches are measured."""
COMPILE_SECONDS = 300.0
"""Time in which `compile` may compile for further shapes."""

log = logging.getLogger("finetuner")


class Learner:
    """Network, optimizers and schedules of a task.

    Args:
        task: model, data and loss.
        config: epochs, scheduler, precision, seed, training options.
        learning_rate: peak.

    Raises:
        FinetunerError: precision 'fp16' on a CPU.
    """

    def __init__(self, task: Task, config: RunConfig, learning_rate: float) -> None:
        self._task = task
        self._options = config.options
        self.device = task.model.device
        self._crops = torch.Generator().manual_seed(config.seed)
        self.precision = mixed_precision(config.precision, self.device)
        self._accelerator = Accelerator(
            cpu=self.device.type == "cpu", mixed_precision="no" if self.precision == "fp32" else self.precision
        )
        if self._options.gradient_checkpointing:
            task.allow_gradient_checkpointing()
        self._compiles_until: float | None = None
        if self._options.compile:
            log.info("Compiling the network: the first steps are slow, those after %g s are not", COMPILE_SECONDS)
            torch.compiler.set_stance("default")
            compile_network(task.network)
            self._compiles_until = time.monotonic() + COMPILE_SECONDS
        self._copies: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            network: Any = task.network
            network.to(memory_format=torch.channels_last)  # convolutions take half the time
        self._network = self._accelerator.prepare(task.network)
        self._optimizers = [self._accelerator.prepare(optimizer) for optimizer in task.optimizers(learning_rate)]
        self._pull: PullToStart | None = None
        if self._options.l2_sp:
            self._pull = PullToStart(self._optimizers[0].optimizer, self._options.l2_sp)
        self._config, steps = config, task.steps_per_epoch * config.epochs
        factor = learning_rate_factor(config.scheduler, config.scheduler_options, steps, config.epochs)
        self._schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, factor) for optimizer in self._optimizers
        ]
        preprocess = task.model.preprocess_config
        self._mean, self._std = (self._channels(values) for values in (preprocess.mean, preprocess.std))
        self.micro_batch = self._options.micro_batch_size
        """Pairs in memory at once. None until `find_micro_batch` has measured it."""

    @property
    def peak_rate(self) -> float:
        """Learning rate at the peak of the schedule."""
        return float(self._schedulers[0].base_lrs[0])

    @property
    def resolved(self) -> dict[str, Any]:
        """The training options in force, as JSON values, with the defaults and measurements filled in.

        `learning_rate` is the peak, `steps` those of the whole run, `micro_batch_size` None before its measurement.
        """
        config, task = self._config, self._task
        steps = task.steps_per_epoch * config.epochs
        layer_decay = {name: value for name, value in config.optimizer_options.items() if name == LAYER_DECAY}
        return {
            **({"recipe": config.recipe} if config.recipe else {}),
            **({"recipe_choice": config.recipe_choice} if config.recipe_choice else {}),
            "loss": config.loss,
            "loss_options": self._task.loss_options(),
            "optimizer": config.optimizer,
            "optimizer_options": resolved_options(self._optimizers[0].optimizer) | layer_decay,
            "learning_rate": self.peak_rate,
            **({"learning_rates": dict(rates)} if (rates := self._options.learning_rates) else {}),
            "scheduler": config.scheduler or "constant",
            "scheduler_options": resolved_schedule(config.scheduler, config.scheduler_options, steps, config.epochs),
            "epochs": config.epochs,
            "steps": steps,
            "batch_size": task.batch_size,
            "micro_batch_size": self.micro_batch,
            "precision": self.precision,
            "seed": config.seed,
            "device": self.device.type,
            "num_processes": self.processes,
        }

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._schedulers[0].get_last_lr()[0])

    @property
    def processes(self) -> int:
        """Number of processes that share each batch."""
        return int(self._accelerator.num_processes)

    def train(self) -> None:
        """Put the network into training mode."""
        self._network.train()

    def eval(self) -> None:
        """Put the network into eval mode."""
        self._network.eval()

    def fetch(self, planned: Any) -> Batch:
        """Return this process's share of a planned batch. Called in a thread, which also sends it to a GPU."""
        batch = self._task.fetch(planned, self._accelerator.process_index, self.processes)
        return batch if self._copies is None else batch.on_gpu(self._copies)

    def find_micro_batch(self) -> int:
        """Return the number of pairs in memory at once: the configuration's, or as many as fit."""
        if self.micro_batch is None:
            whole: int = -(-self._task.rows_per_step // self.processes)
            self.micro_batch = whole if whole <= SURELY_FITS else self._probe(whole)
        return self.micro_batch

    def backward(self, batch: Batch) -> float:
        """Add a batch's gradient to the parameters' and return its loss, the mean over all processes."""
        if self._compiles_until is not None and time.monotonic() > self._compiles_until:
            self._compiles_until = None
            torch.compiler.set_stance("eager_on_recompile")
            log.info("Batches of other shapes are computed without compilation from here on")
        return self._backward(batch, self._read)()

    def update(self) -> None:
        """Let the optimizers and schedules take one step."""
        if self._pull is not None:
            self._pull.apply()
        for optimizer, scheduler in zip(self._optimizers, self._schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        self._task.after_step()

    def validation_loss(self) -> float | None:
        """Return the mean loss over the validation batches of all processes, None without any."""
        plan = self._task.held_out()
        if not plan:
            return None
        network = self._task.network.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss times pairs, pairs
        own = plan[self._accelerator.process_index :: self.processes]
        with torch.inference_mode():
            for batch in map(self._task.fetch_held_out, own):
                inputs, keys = self._on_device(batch)
                outputs: Outputs = network(*inputs)
                loss = self._task.loss(outputs, keys, validation=True)
                sums += torch.tensor([loss.item() * len(batch), len(batch)], device=self.device)
        network.train()
        total, count = self._accelerator.reduce(sums, "sum").tolist()
        return float(total / count)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        scaler = self._accelerator.scaler
        return {
            "network": self._task.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
            "scaler": None if scaler is None else scaler.state_dict(),
            "crops": self._crops.get_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._task.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if self._accelerator.scaler is not None and state["scaler"] is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self._crops.set_state(state["crops"])

    def _backward(self, batch: Batch, read: Callable[[torch.Tensor], Result]) -> Result:
        """Add a batch's gradient to the parameters'; return what `read` returns for the loss."""
        (images, *others), keys = self._on_device(batch)
        images = augment(images, self._crops, crop_scale=self._options.crop_scale, flips=self._options.flips)
        inputs = (images, *others)
        with self._accelerator.autocast():
            taught = self._task.teach(inputs, self.micro_batch)

        def loss_of(*outputs: torch.Tensor) -> torch.Tensor:
            loss = self._task.loss(outputs, keys)
            return loss + self._task.distillation(outputs, taught, keys) if taught else loss

        if self.micro_batch is None or self.micro_batch >= len(batch):
            loss = loss_of(*self._network(*inputs))
            result = read(loss)
            self._accelerator.backward(loss)
            return result
        loss = cached_backward(
            lambda chunk: self._network(*chunk),
            list(zip(*(torch.split(tensor, self.micro_batch) for tensor in inputs), strict=True)),
            loss_of,
            loss_parameters=self._task.loss_parameters(),
            backward=self._accelerator.backward,
            no_sync=partial(self._accelerator.no_sync, self._network),
        )
        return read(loss)

    def _read(self, loss: torch.Tensor) -> Callable[[], float]:
        """Return a function that returns the loss, the mean over all processes.

        On a GPU the copy starts now, so that reading waits for the work before this call and not for any after it.
        """
        mean: torch.Tensor = self._accelerator.reduce(loss.detach(), "mean")
        if self.device.type != "cuda":
            return lambda: float(mean.item())
        copy = torch.empty((), pin_memory=True).copy_(mean, non_blocking=True)
        copied = torch.cuda.current_stream().record_event()

        def read() -> float:
            copied.synchronize()
            return float(copy)

        return read

    def _on_device(self, batch: Batch) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return the network's inputs, with normalised images, and the loss's keys."""
        batch.wait()
        images = normalised(batch.pixels.to(self.device), self._mean, self._std)
        inputs, keys = (tuple(tensor.to(self.device) for tensor in side) for side in (batch.inputs, batch.keys))
        return (images, *inputs), keys

    def _probe(self, whole: int) -> int:
        """Return the largest number of pairs that fits into memory in every process."""
        planned = self._task.plan(np.random.default_rng(0))[0]
        batch = self._task.fetch(planned, self._accelerator.process_index, self.processes)
        self._network.train()

        def try_step(size: int) -> None:
            with self._accelerator.no_sync(self._network):
                self._backward(batch.first(size), torch.Tensor.detach)
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)

        with torch.compiler.set_stance("force_eager"):  # it would compile for each size
            fits = probe_micro_batch(try_step, self._task.network, self._crops, self.device, whole)
        least: torch.Tensor = -self._accelerator.reduce(torch.tensor([-fits], device=self.device), "max")
        return round(float(least))

    def _channels(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=self.device).view(1, 3, 1, 1)


def mixed_precision(precision: str, device: torch.device) -> str:
    """Return the precision of a run: 'fp32', 'bf16' or 'fp16'. 'auto' is bf16 on GPUs that support it, else fp32.

    Raises:
        FinetunerError: 'fp16' on a CPU, whose kernels lack it.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise FinetunerError("precision must be 'fp32' or 'bf16' on a CPU. Got 'fp16'. Leave it out.")
    return precision
