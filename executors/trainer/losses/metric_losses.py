"""Builds losses and miners of pytorch-metric-learning from a `MetricConfig`."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses, miners
from torch import nn

from finetuner.config.metric_config import MEMORY_SIZE, MetricConfig
from finetuner.exceptions import InvalidInput


class EmbeddingMemory(losses.CrossBatchMemory):  # type: ignore[misc]  # the library has no types
    """A loss of a batch against a queue of the newest embeddings, its own included. The state dict holds all of it.

    Wang et al., arXiv:1912.06798.
    """

    def get_extra_state(self) -> torch.Tensor:
        """Return (2,) int64: position of the next embedding, and whether the queue is full."""
        return torch.tensor([self.queue_idx, self.has_been_filled])

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        position, full = state.tolist()
        self.queue_idx, self.has_been_filled = position, bool(full)


class MetricLoss(nn.Module):
    """A loss over embeddings and labels, with its miner and its memory of earlier batches.

    Args:
        config: names and options.
        classes: number of labels.
        dim: embedding size.

    Raises:
        InvalidInput: the library refuses the options.
    """

    def __init__(self, config: MetricConfig, classes: int, dim: int) -> None:
        super().__init__()
        self.name = config.loss
        given: dict[str, Any] = dict(config.loss_options)
        memory_size = given.pop(MEMORY_SIZE, 0)
        if config.learns_classes:
            given |= {
                "num_classes": classes,
                "descriptors_dim" if self.name == "P2SGradLoss" else "embedding_size": dim,
            }
        self._loss = _made(losses, self.name, given)
        self._miner = None if config.miner is None else _made(miners, config.miner, dict(config.miner_options))
        self._memory = EmbeddingMemory(self._loss, dim, memory_size, self._miner) if memory_size else None

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, *, mine: bool = True) -> torch.Tensor:
        """Return the loss of a batch, () float32.

        Args:
            embeddings: (batch, dim) float32, of any length; the library normalises them. With a memory, the batch
                must fit into it.
            labels: (batch,) int64, from 0.
            mine: False uses every pair or triplet of the batch, without miner and memory.
        """
        embeddings = embeddings.float()
        if mine and self._memory is not None:
            loss = self._memory(embeddings, labels)
        elif mine and self._miner is not None:
            loss = self._loss(embeddings, labels, self._miner(embeddings, labels))
        else:
            loss = self._loss(embeddings, labels)
        # For a batch without pairs, the library returns a plain zero, which backward() would refuse.
        reduced: torch.Tensor = torch.as_tensor(loss, device=embeddings.device).squeeze() + 0 * embeddings.sum()
        return reduced

    @property
    def has_weights(self) -> bool:
        """Whether the loss has trainable weights."""
        return any(True for _ in self.parameters())


def _made(library: Any, name: str, given: dict[str, Any]) -> Any:
    try:
        return getattr(library, name)(**given)
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidInput(f"{name} must have options that go together. Got {given}: {error}. Change them.") from error
