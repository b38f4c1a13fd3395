"""The training loop of a model of pictures: a metric loss over batches of labelled pictures."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.image_model import ImageModel
from finetuner.metric_config import MetricConfig
from finetuner.run_config import RunConfig

from .class_sampler import class_batch_count, class_batches, random_batch_count, random_batches
from .crops import normalised, random_crops
from .hooks import Hook, Progress
from .image_data import ImageData
from .metric_losses import MetricLoss
from .optimization import learning_rate_factor, make_optimizer
from .training import LINES_PER_EPOCH, Step

log = logging.getLogger("finetuner")


def train_images(
    progress: Progress,
    data: ImageData,
    config: RunConfig,
    metric: MetricConfig,
    *,
    learning_rate: float,
    batch_size: int,
    report: Callable[[dict[str, Any]], None],
    hooks: Sequence[Hook] = (),
) -> None:
    """Tune a model of pictures in place.

    Args:
        progress: holds the model; its network is trained, and is in eval mode again afterwards.
        data: at least two pictures of two labels.
        config: epochs, val_split, optimizer, scheduler, seed.
        metric: loss, miner and sampler.
        learning_rate: peak, of the network, and of the loss's weights where they have none of their own.
        batch_size: pictures a step, at most.
        report: gets a `Step` as a dict, some times an epoch.
        hooks: called after each step and each epoch; one may ask to end training.

    Raises:
        InvalidInput: the data has no two pictures of a label where the loss compares pictures, or val_split leaves
            fewer than two labels on a side.
        FinetunerError: the loss is not finite.
    """
    model = progress.model
    assert isinstance(model, ImageModel)
    set_seed(config.seed)
    generator, crop_generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    train_rows, val_rows = _split(data, config.val_split, generator, by_label=not metric.learns_classes)
    labels = data.labels[train_rows]
    if not metric.learns_classes and np.bincount(labels).max() < 2:
        raise InvalidInput(
            f"train_data must hold labels with two or more pictures for {metric.loss}. Got {len(labels)} pictures, "
            f"each of its own label. Check finetuner_label."
        )
    batch_size = min(batch_size, len(labels))
    if metric.samples_classes:
        steps_per_epoch = class_batch_count(labels, batch_size, metric.num_items_per_class)
    else:
        steps_per_epoch = random_batch_count(len(labels), batch_size)
    steps = steps_per_epoch * config.epochs

    accelerator = Accelerator(cpu=model.device.type == "cpu")
    loss_of = MetricLoss(metric, len(data.names), model.dim).to(model.device)
    optimizers = _optimizers(model, loss_of, config, metric, learning_rate)
    factor = learning_rate_factor(config.scheduler, config.scheduler_options, steps)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, factor) for optimizer in optimizers]
    network = accelerator.prepare(model.network)
    every = max(steps_per_epoch // LINES_PER_EPOCH, 1)
    log.info(
        "Finetuning: %d pictures of %d labels, %d epochs of %d steps, %s, %s, learning rate %g",
        len(labels),
        len(np.unique(labels)),
        config.epochs,
        steps_per_epoch,
        metric.loss,
        config.optimizer,
        learning_rate,
    )

    started = since = time.perf_counter()
    losses: list[float] = []
    seen = 0
    for epoch in range(1, config.epochs + 1):
        progress.epoch, epoch_losses = epoch, []
        network.train()
        for batch in _batches(labels, batch_size, metric, generator):
            rows = train_rows[batch]
            images = random_crops(_images(model, data, rows), crop_generator)
            loss = loss_of(network(images), torch.from_numpy(data.labels[rows]).to(model.device))
            progress.step = step = progress.step + 1
            value, rate = loss.item(), float(schedulers[0].get_last_lr()[0])
            if not math.isfinite(value):
                raise FinetunerError(
                    f"loss must be finite. Got {value} at step {step}, learning rate {rate:g}. Lower the learning "
                    f"rate. First labels of the batch: {[data.names[label] for label in data.labels[rows[:3]]]}"
                )
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
                optimizer.step()
                scheduler.step()
            losses.append(value)
            epoch_losses.append(value)
            seen += len(rows)
            last = step % steps_per_epoch == 0
            if step % every == 0 or last:
                now = time.perf_counter()
                val_loss = _validation_loss(model, data, val_rows, batch_size, loss_of) if last else None
                entry = Step(step, epoch, sum(losses) / len(losses), rate, seen / (now - since), val_loss)
                report(asdict(entry))
                _log_step(entry, config.epochs, steps, now - started)
                losses, seen, since = [], 0, time.perf_counter()
            since += _seconds_of([hook.after_step for hook in hooks], progress)
        network.eval()
        mean_loss = sum(epoch_losses) / len(epoch_losses)
        progress.values |= {"loss": mean_loss, "train_loss": mean_loss}
        if val_loss is not None:
            progress.values["val_loss"] = val_loss
        since += _seconds_of([hook.after_epoch for hook in hooks], progress)
        if progress.stop:
            log.info("%s", progress.stop)
            return


def _optimizers(
    model: ImageModel, loss_of: MetricLoss, config: RunConfig, metric: MetricConfig, learning_rate: float
) -> list[torch.optim.Optimizer]:
    """Return the network's optimizer, and that of the loss's weights where it has some."""
    optimizers = [make_optimizer(model.network, config, learning_rate)]
    if loss_of.has_weights:
        options = dict(metric.loss_optimizer_options)
        rate = options.pop("lr", learning_rate)
        same = metric.loss_optimizer is None and not options
        own = (
            config
            if same
            else replace(config, optimizer=metric.loss_optimizer or config.optimizer, optimizer_options=options)
        )
        optimizers.append(make_optimizer(loss_of, own, rate))
    return optimizers


def _batches(
    labels: np.ndarray, batch_size: int, metric: MetricConfig, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    if metric.samples_classes:
        return class_batches(labels, batch_size, metric.num_items_per_class, generator)
    return random_batches(len(labels), batch_size, generator)


def _images(model: ImageModel, data: ImageData, rows: np.ndarray) -> torch.Tensor:
    config, shape = model.preprocess_config, (1, 3, 1, 1)
    mean = torch.tensor(config.mean, device=model.device).view(shape)
    std = torch.tensor(config.std, device=model.device).view(shape)
    return normalised(torch.from_numpy(data.pixels[rows]).to(model.device), mean, std)


def _validation_loss(
    model: ImageModel, data: ImageData, rows: np.ndarray, batch_size: int, loss_of: MetricLoss
) -> float | None:
    """Return the mean loss of the held-out pictures without miner, pictures of a label side by side."""
    if not len(rows):
        return None
    model.network.eval()
    total = count = 0.0
    with torch.inference_mode():
        for start in range(0, len(rows) - 1, batch_size):
            batch = rows[start : start + batch_size]
            labels = torch.from_numpy(data.labels[batch]).to(model.device)
            loss = loss_of(model.network(_images(model, data, batch)), labels, mine=False)
            total, count = total + loss.item() * len(batch), count + len(batch)
    model.network.train()
    return total / count


def _split(
    data: ImageData, share: float, generator: np.random.Generator, *, by_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and those held out, the latter by label; whole labels, or pictures of any."""
    if not share:
        return np.arange(len(data)), np.empty(0, dtype=np.int64)
    held_out = np.zeros(len(data), dtype=bool)
    order = generator.permutation(len(data.names) if by_label else len(data))
    chosen = order[: round(len(order) * share)]
    if by_label:
        held_out = np.isin(data.labels, chosen)
    else:
        held_out[chosen] = True
    if min(len(np.unique(data.labels[side])) for side in (held_out, ~held_out)) < 2:
        raise InvalidInput(
            f"val_split must leave two labels on each side. Got {share:g} of {len(data.names)} labels, "
            f"{len(data)} pictures. Choose another share."
        )
    rows = np.flatnonzero(held_out)
    return np.flatnonzero(~held_out), rows[np.argsort(data.labels[rows], kind="stable")]


def _seconds_of(moments: Sequence[Callable[[Progress], None]], progress: Progress) -> float:
    """Call hooks; return the seconds that they took, which do not count as training."""
    started = time.perf_counter()
    for moment in moments:
        moment(progress)
    return time.perf_counter() - started


def _log_step(entry: Step, epochs: int, steps: int, seconds: float) -> None:
    validation = "" if entry.val_loss is None else f" - val_loss {entry.val_loss:.4f}"
    log.info(
        "Epoch %d/%d - step %d/%d - loss %.4f%s - %.0f pictures/s - ETA %.0f s",
        entry.epoch,
        epochs,
        entry.step,
        steps,
        entry.loss,
        validation,
        entry.pairs_per_second,
        seconds / entry.step * (steps - entry.step),
    )
