"""The interface between the loop and a kind of training: model, batches and loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from finetuner.config.run_config import RunConfig
from finetuner.models.model_kinds import Model


@dataclass(frozen=True)
class Batch:
    """One batch, on the CPU or on its way to a GPU."""

    pixels: torch.Tensor
    """(batch, 3, size, size) uint8"""
    inputs: tuple[torch.Tensor, ...]
    """Further inputs of the network, each (batch, ...)."""
    keys: tuple[torch.Tensor, ...]
    """Further inputs of the loss, each (batch, ...): int64 ids, and float32 weights if the items have any."""
    described: str
    """First items of the batch, for messages."""
    copied: torch.cuda.Event | None = None
    """Occurs on the GPU once the tensors have arrived there; None if they are on the CPU."""

    def __len__(self) -> int:
        return len(self.pixels)

    def on_gpu(self, stream: torch.cuda.Stream) -> Batch:
        """Return the batch on a GPU, to which the stream copies it from pinned memory."""

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.pin_memory().to(stream.device, non_blocking=True)

        with torch.cuda.stream(stream):
            inputs, keys = (tuple(map(copied, side)) for side in (self.inputs, self.keys))
            return Batch(copied(self.pixels), inputs, keys, self.described, stream.record_event())

    def wait(self) -> None:
        """Let the GPU's current stream wait for the copy."""
        if self.copied is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.copied)
            for tensor in (self.pixels, *self.inputs, *self.keys):
                tensor.record_stream(stream)  # keeps the memory until this stream has read it

    def first(self, count: int) -> Batch:
        """Return the first `count` pairs, repeated if the batch has fewer."""
        rows = torch.arange(count) % len(self)
        inputs, keys = (tuple(tensor[rows] for tensor in side) for side in (self.inputs, self.keys))
        return Batch(self.pixels[rows], inputs, keys, self.described)


Outputs = tuple[torch.Tensor, ...]
"""Outputs of the network, each (batch, ..., dim) float32."""


class Task(ABC):
    """A model, its data and its loss."""

    model: Model
    """Tuned in place."""
    network: nn.Module
    """(batch, 3, size, size) float32 images and `Batch.inputs` -> `Outputs`. It holds all trained parameters."""
    unit: str
    """Name of the items in a batch, in the plural: 'pairs' or 'images'."""
    batch_size: int
    """Items in a whole batch, over all processes."""
    steps_per_epoch: int
    """Batches in an epoch, the same in each."""

    @property
    def rows_per_step(self) -> int:
        """Rows of a whole batch, over all processes: its items, and what is scored beside them."""
        return self.batch_size

    @abstractmethod
    def summary(self) -> str:
        """Describe the data and the loss, for the log."""

    @abstractmethod
    def loss_options(self) -> dict[str, Any]:
        """Return the options of the loss in force, as JSON values."""

    @abstractmethod
    def optimizers(self, learning_rate: float) -> list[torch.optim.Optimizer]:
        """Return new optimizers of all trained parameters."""

    @abstractmethod
    def plan(self, generator: np.random.Generator) -> Sequence[Any]:
        """Draw the `steps_per_epoch` batches of an epoch. All randomness of an epoch is drawn here."""

    def arrange(self, plan: Sequence[Any], epoch: int) -> Sequence[Any]:
        """Return the batches of an epoch, in the same number, as the model's weights at its start suggest.

        Args:
            plan: as `plan` drew it.
            epoch: from 1.
        """
        return plan

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint: what `arrange` decided with weights that are gone by then."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        return

    @abstractmethod
    def held_out(self) -> Sequence[Any]:
        """Return the batches of the validation data, in order; empty without any."""

    @abstractmethod
    def fetch(self, planned: Any, process: int = 0, processes: int = 1) -> Batch:
        """Return a planned batch, or one process's share of it. Called in a separate thread."""

    @abstractmethod
    def fetch_held_out(self, planned: Any) -> Batch:
        """Return a batch of the validation data."""

    @abstractmethod
    def loss(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, validation: bool = False) -> torch.Tensor:
        """Return the loss of a whole batch, () float32.

        Args:
            outputs: of this process's share of the batch.
            keys: of the same share.
            validation: the batch belongs to this process alone, and no miner selects from it.
        """

    def teach(self, inputs: Sequence[torch.Tensor], at_once: int | None) -> Outputs:
        """Return a frozen teacher's outputs for the network's inputs, `at_once` rows in memory; () without one."""
        return ()

    def distillation(self, outputs: Outputs, taught: Outputs, keys: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return what is added to `loss` in training where `teach` returns outputs, () float32.

        Args:
            outputs: of this process's share of the batch.
            taught: the teacher's, for the same share.
            keys: of the same share.
        """
        raise AssertionError("a task without a teacher distils nothing")

    @abstractmethod
    def loss_parameters(self) -> Sequence[torch.nn.Parameter]:
        """Return the parameters of the loss."""

    def allow_gradient_checkpointing(self) -> None:
        """Turn on gradient checkpointing: recompute activations in the backward pass."""
        network: Any = self.model.network
        network.set_grad_checkpointing()

    def after_step(self) -> None:
        """Clamp parameters to their range after an optimizer step."""
        return


def split_generator(config: RunConfig) -> np.random.Generator:
    """Return the generator that draws the validation data, separate from the one of the epochs."""
    return np.random.default_rng([config.seed, 1])


def share(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
    """Return one process's rows of a batch. All get the same number, so the first rows may be repeated."""
    return np.resize(rows, -(-len(rows) // processes) * processes)[process::processes]
