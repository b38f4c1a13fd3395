"""What is trained: a model with the batches that it sees and the loss of one. The loop takes any."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from finetuner.config.run_config import RunConfig
from finetuner.models.model_kinds import Model


@dataclass(frozen=True)
class Batch:
    """One batch, on the CPU."""

    pixels: torch.Tensor
    """(batch, 3, size, size) uint8"""
    inputs: tuple[torch.Tensor, ...]
    """What the network takes beside the images, each (batch, ...)."""
    keys: tuple[torch.Tensor, ...]
    """What the loss takes beside the network's outputs, each (batch,) int64."""
    described: str
    """The batch's beginning, for messages."""

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, count: int) -> Batch:
        """Return the first pairs; round and round where there are fewer."""
        rows = torch.arange(count) % len(self)
        inputs, keys = (tuple(tensor[rows] for tensor in side) for side in (self.inputs, self.keys))
        return Batch(self.pixels[rows], inputs, keys, self.described)


Outputs = tuple[torch.Tensor, ...]
"""Of the network, each (batch, dim) float32."""


class Task(ABC):
    """A model and its data."""

    model: Model
    """Tuned in place."""
    network: nn.Module
    """(batch, 3, size, size) float32 images and `Batch.inputs` -> `Outputs`; holds all that is trained."""
    unit: str
    """What a batch is made of, in the plural."""
    batch_size: int
    """Of a whole batch."""
    steps_per_epoch: int
    """The same in each epoch."""

    @abstractmethod
    def summary(self) -> str:
        """Return what the log says of the data and the loss."""

    @abstractmethod
    def optimizers(self, learning_rate: float) -> list[torch.optim.Optimizer]:
        """Return fresh optimizers of all that is trained."""

    @abstractmethod
    def plan(self, generator: np.random.Generator) -> Sequence[Any]:
        """Draw everything random of one epoch: what each of its `steps_per_epoch` batches holds."""

    @abstractmethod
    def held_out(self) -> Sequence[Any]:
        """Return the batches of the validation data, in order; none where none is held out."""

    @abstractmethod
    def fetch(self, planned: Any, process: int = 0, processes: int = 1) -> Batch:
        """Return a planned batch, or one process's share of it; called in a thread of its own."""

    @abstractmethod
    def loss(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, validation: bool = False) -> torch.Tensor:
        """Return the loss of a whole batch, () float32.

        Args:
            outputs: of this process's share of the batch.
            keys: of the same.
            validation: the batch is this process's alone, and no miner chooses.
        """

    @abstractmethod
    def loss_parameters(self) -> Sequence[torch.nn.Parameter]:
        """Return what the loss trains beside the network's outputs."""

    def allow_gradient_checkpointing(self) -> None:
        """Let the network compute activations again in the backward pass."""
        network: Any = self.model.network
        network.set_grad_checkpointing()

    def after_step(self) -> None:
        """Put what the optimizer moved too far back into its range."""
        return


def split_generator(config: RunConfig) -> np.random.Generator:
    """Return what draws the validation data; the order of the epochs has draws of its own."""
    return np.random.default_rng([config.seed, 1])


def share(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
    """Return one process's rows of a batch; all get as many, for which the batch's first ones may come twice."""
    return np.resize(rows, -(-len(rows) // processes) * processes)[process::processes]
