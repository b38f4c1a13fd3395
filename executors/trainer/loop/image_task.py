"""The task of an image model: labelled images and a metric loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.models.image_model import ImageModel

from ..data.class_sampler import class_batch_count, random_batch_count
from ..data.image_data import ImageData
from ..losses.contrastive import of_all_processes
from ..losses.metric_losses import MetricLoss
from .optimization import make_optimizer
from .task import Batch, Outputs, Task, share, split_generator


class ImageNetwork(nn.Module):
    """An image model together with the weights of its loss.

    Args:
        network: images -> embeddings.
        loss: of embeddings and labels; its weights are trained too.
    """

    def __init__(self, network: nn.Module, loss: MetricLoss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return the embeddings of (batch, 3, size, size) images, of any length."""
        return (self.network(images).float(),)


class ImageTask(Task):
    """A metric loss over labelled images.

    Args:
        model: tuned in place.
        data: with at least two images of two labels.
        config: loss, miner, sampler, val_split, optimizer, seed.
        batch_size: most images in a step.
        validation: data of the validation loss; None holds out a share of `data`, `config.val_split`.

    Raises:
        InvalidInput: the loss compares images and the data has no two images of a label, or val_split leaves fewer
            than two labels on a side; or the loss learns the labels and `validation` has others.
    """

    model: ImageModel
    unit = "images"

    def __init__(
        self,
        model: ImageModel,
        data: ImageData,
        config: RunConfig,
        batch_size: int,
        validation: ImageData | None = None,
    ) -> None:
        self.model = model
        self._data = data
        self._config = config
        self._metric = metric = config.metric
        by_label = not metric.learns_classes
        self._rows, held_out = _split(data, config, by_label=by_label)
        self._labels = data.labels[self._rows]
        if by_label and np.bincount(self._labels).max() < 2:
            raise InvalidInput(
                f"train_data must hold labels with two or more images for {metric.loss}. Got {len(self._labels)} "
                f"images, each of its own label. Check finetuner_label."
            )
        self._loss = MetricLoss(metric, len(data.names), model.dim).to(model.device)
        self.network = ImageNetwork(model.network, self._loss)
        self.batch_size = size = min(batch_size, len(self._labels))
        if metric.samples_classes:
            self.steps_per_epoch = class_batch_count(self._labels, size, metric.num_items_per_class)
        else:
            self.steps_per_epoch = random_batch_count(len(self._labels), size)
        self._validation = data
        if validation is not None:
            self._validation = validation.with_numbers(data.names, others=by_label)
            held_out = np.argsort(self._validation.labels, kind="stable")
        self._held_out = self._validation.plan(held_out, size, None, None)

    def summary(self) -> str:
        """Return the numbers of images and labels, and the loss."""
        return f"{len(self._labels)} images of {len(np.unique(self._labels))} labels, {self._metric.loss}"

    def loss_options(self) -> dict[str, Any]:
        """Return the options of the loss."""
        return dict(self._config.loss_options)

    def optimizers(self, learning_rate: float) -> list[torch.optim.Optimizer]:
        """Return the network's optimizer, and one of the loss's weights if it has any."""
        made = [make_optimizer(self.model.network, self._config, learning_rate)]
        if self._loss.has_weights:
            options = dict(self._metric.loss_optimizer_options)
            rate = options.pop("lr", learning_rate)
            own = self._config
            if self._metric.loss_optimizer is not None or options:
                kind = self._metric.loss_optimizer or own.optimizer
                own = replace(own, optimizer=kind, optimizer_options=options)
            made.append(make_optimizer(self._loss, own, rate))
        return made

    def plan(self, generator: np.random.Generator) -> Sequence[np.ndarray]:
        """Draw the images of each batch."""
        together = self._metric.num_items_per_class if self._metric.samples_classes else None
        return self._data.plan(self._rows, self.batch_size, together, generator)

    def held_out(self) -> Sequence[np.ndarray]:
        """Return the images of the validation data, sorted by label."""
        return self._held_out

    def fetch(self, planned: np.ndarray, process: int = 0, processes: int = 1) -> Batch:
        """Return images, and labels as keys."""
        return self._batch(self._data, share(planned, process, processes))

    def fetch_held_out(self, planned: np.ndarray) -> Batch:
        """Return a batch of the validation data, as `fetch` does."""
        return self._batch(self._validation, planned)

    def _batch(self, data: ImageData, rows: np.ndarray) -> Batch:
        pixels, labels = data.fetch(rows)
        described = f"the labels {[data.names[label] for label in labels[:3]]}"
        return Batch(torch.from_numpy(pixels), (), (torch.from_numpy(labels),), described)

    def loss(self, outputs: Outputs, keys: tuple[torch.Tensor, ...], *, validation: bool = False) -> torch.Tensor:
        """Return the loss of the whole batch, in every process. Validation uses all pairs or triplets."""
        if not validation:
            outputs, keys = (tuple(map(of_all_processes, side)) for side in (outputs, keys))
        loss: torch.Tensor = self._loss(*outputs, *keys, mine=not validation)
        return loss

    def loss_parameters(self) -> Sequence[nn.Parameter]:
        """Return the loss's weights."""
        return list(self._loss.parameters())


def _split(data: ImageData, config: RunConfig, *, by_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on, and the held-out rows sorted by label: whole labels, or images of any label."""
    share = config.val_split
    if not share:
        return np.arange(len(data)), np.empty(0, dtype=np.int64)
    held_out = np.zeros(len(data), dtype=bool)
    order = split_generator(config).permutation(len(data.names) if by_label else len(data))
    chosen = order[: round(len(order) * share)]
    if by_label:
        held_out = np.isin(data.labels, chosen)
    else:
        held_out[chosen] = True
    if min(len(np.unique(data.labels[side])) for side in (held_out, ~held_out)) < 2:
        raise InvalidInput(
            f"val_split must leave two labels on each side. Got {share:g} of {len(data.names)} labels, "
            f"{len(data)} images. Choose another share."
        )
    rows = np.flatnonzero(held_out)
    return np.flatnonzero(~held_out), rows[np.argsort(data.labels[rows], kind="stable")]
