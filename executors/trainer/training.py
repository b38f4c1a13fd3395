"""The training loop: InfoNCE over batches of pictures and captions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from open_clip import ClipLoss

from finetuner.clip import Clip, text_features
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.run_config import RunConfig

from .crops import normalised, random_crops
from .hooks import Hook, Progress
from .optimization import learning_rate_factor, make_optimizer
from .training_data import TrainingData

MAX_LOGIT_SCALE = math.log(100)
LINES_PER_EPOCH = 5

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Step:
    """What is reported of a step, or of the validation after an epoch."""

    step: int
    """From 1, over the whole run."""
    epoch: int
    """From 1."""
    loss: float
    """Mean InfoNCE since the last report, nats."""
    learning_rate: float
    pairs_per_second: float
    val_loss: float | None = None
    """After the last step of an epoch, where validation data is held out."""


def train(
    progress: Progress,
    data: TrainingData,
    config: RunConfig,
    *,
    learning_rate: float,
    batch_size: int,
    report: Callable[[dict[str, Any]], None],
    hooks: Sequence[Hook] = (),
) -> None:
    """Tune a model in place.

    Args:
        progress: holds the model; its network is trained, and is in eval mode again afterwards.
        data: at least two pictures.
        config: epochs, val_split, optimizer, scheduler, seed.
        learning_rate: peak.
        batch_size: pairs a step, at most; as many as there are, where there are fewer.
        report: gets a `Step` as a dict, some times an epoch.
        hooks: called after each step and each epoch; one may ask to end training.

    Raises:
        InvalidInput: val_split leaves fewer than two pictures on a side.
        FinetunerError: the loss is not finite.
    """
    model = progress.model
    assert isinstance(model, Clip)
    set_seed(config.seed)
    generator, crop_generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    train_rows, val_rows = _split(len(data), config.val_split, generator)
    batch_size = min(batch_size, len(train_rows))
    steps_per_epoch = sum(1 for _ in _starts(len(train_rows), batch_size))
    steps = steps_per_epoch * config.epochs

    accelerator = Accelerator(cpu=model.device.type == "cpu")
    optimizer = make_optimizer(model.network, config, learning_rate)
    factor = learning_rate_factor(config.scheduler, config.scheduler_options, steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    network, optimizer, scheduler = accelerator.prepare(model.network, optimizer, scheduler)
    loss_of = ClipLoss()
    mean, std = _moments(model)
    every = max(steps_per_epoch // LINES_PER_EPOCH, 1)
    log.info(
        "Finetuning: %d pictures, %d epochs of %d steps of %d pairs, %s, learning rate %g",
        len(train_rows),
        config.epochs,
        steps_per_epoch,
        batch_size,
        config.optimizer,
        learning_rate,
    )

    started = time.perf_counter()
    losses: list[float] = []
    seen, since = 0, started
    for epoch in range(1, config.epochs + 1):
        progress.epoch, epoch_losses = epoch, []
        network.train()
        for pixels, captions in data.batches(train_rows, batch_size, generator):
            images = normalised(torch.from_numpy(pixels).to(model.device), mean, std)
            images = random_crops(images, crop_generator)
            loss = _loss(model, loss_of, images, captions)
            progress.step = step = progress.step + 1
            value = loss.item()
            if not math.isfinite(value):
                raise FinetunerError(
                    f"loss must be finite. Got {value} at step {step}, learning rate {scheduler.get_last_lr()[0]:g}. "
                    f"Lower the learning rate. First captions of the batch: {captions[:3]}"
                )
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            rate = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                model.network.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            losses.append(value)
            epoch_losses.append(value)
            seen += len(captions)
            last = step % steps_per_epoch == 0
            if step % every == 0 or last:
                now = time.perf_counter()
                val_loss = _validation_loss(model, data, val_rows, batch_size, loss_of, mean, std) if last else None
                entry = Step(step, epoch, sum(losses) / len(losses), rate, seen / (now - since), val_loss)
                report(asdict(entry))
                _log_step(entry, config.epochs, steps, now - started)
                losses, seen, since = [], 0, time.perf_counter()
            since += _call((hook.after_step for hook in hooks), progress)
        network.eval()
        mean_loss = sum(epoch_losses) / len(epoch_losses)
        progress.values |= {"loss": mean_loss, "train_loss": mean_loss}
        if val_loss is not None:
            progress.values["val_loss"] = val_loss
        since += _call((hook.after_epoch for hook in hooks), progress)
        if progress.stop:
            log.info("%s", progress.stop)
            return


def _call(moments: Iterable[Callable[[Progress], None]], progress: Progress) -> float:
    """Call hooks; return the seconds that they took, which do not count as training."""
    started = time.perf_counter()
    for moment in moments:
        moment(progress)
    return time.perf_counter() - started


def _log_step(entry: Step, epochs: int, steps: int, seconds: float) -> None:
    left = seconds / entry.step * (steps - entry.step)
    validation = "" if entry.val_loss is None else f" - val_loss {entry.val_loss:.4f}"
    log.info(
        "Epoch %d/%d - step %d/%d - loss %.4f%s - %.0f pairs/s - ETA %.0f s",
        entry.epoch,
        epochs,
        entry.step,
        steps,
        entry.loss,
        validation,
        entry.pairs_per_second,
        left,
    )


def _loss(model: Clip, loss_of: ClipLoss, images: torch.Tensor, captions: list[str]) -> torch.Tensor:
    tokens = model.tokenizer(captions).to(model.device)
    image = torch.nn.functional.normalize(model.network.encode_image(images), dim=-1)  # (batch, dim)
    text = torch.nn.functional.normalize(text_features(model.network, tokens), dim=-1)  # (batch, dim)
    loss: torch.Tensor = loss_of(image, text, model.network.logit_scale.exp())
    return loss


def _validation_loss(
    model: Clip,
    data: TrainingData,
    rows: np.ndarray,
    batch_size: int,
    loss_of: ClipLoss,
    mean: torch.Tensor,
    std: torch.Tensor,
) -> float | None:
    if not len(rows):
        return None
    model.network.eval()
    total = count = 0.0
    with torch.inference_mode():
        for pixels, captions in data.batches(rows, batch_size, None):
            images = normalised(torch.from_numpy(pixels).to(model.device), mean, std)
            total += _loss(model, loss_of, images, captions).item() * len(captions)
            count += len(captions)
    model.network.train()
    return total / count


def _moments(model: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (1, 3, 1, 1)
    config = model.preprocess_config
    return (
        torch.tensor(config.mean, device=model.device).view(shape),
        torch.tensor(config.std, device=model.device).view(shape),
    )


def _starts(count: int, batch_size: int) -> range:
    return range(0, count - 1, batch_size)  # a last batch of one has no negatives


def _split(count: int, share: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = generator.permutation(count)
    held_out = round(count * share)
    if count - held_out < 2 or (share and held_out < 2):
        raise InvalidInput(
            f"val_split must leave two pictures on each side. Got {share:g} of {count} pictures. Choose another share."
        )
    return np.sort(order[held_out:]), np.sort(order[:held_out])
