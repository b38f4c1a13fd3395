"""The ways to tune a model that `tuned_quality.py` compares: loops as people write them, and runs of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import ClipLoss
from torch.nn.functional import cross_entropy, normalize

from finetuner.config.recipes import with_recipe
from finetuner.config.run_callbacks import read_callbacks
from finetuner.config.run_config import RunConfig
from finetuner.evaluation.pairs import EncodedPairs, encode_pairs
from finetuner.executors.trainer.data.crops import augment
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.execution import default_learning_rate
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters
from finetuner.executors.trainer.hooks.wise_ft import MixWeights
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip, text_features, without_padding

from .sets import GUARD, REPLAY, SETS, QualitySet

WARM_UP = 0.05
CROPS = (0.9, 1.0)  # of the default recipe; every loop gets the same
CONSTANT, COSINE = "constant", "cosine"


@dataclass(frozen=True)
class Job:
    """One training, which `str` names: equal names, equal weights."""

    set: str
    """A name of SETS."""
    method: str
    """A name of LOOPS or OURS."""
    rate: float
    """Peak learning rate."""
    decay: float
    """Weight decay, of weights of two dimensions and more."""
    schedule: str
    """CONSTANT, or COSINE with warm-up."""
    seed: int

    def __str__(self) -> str:
        return f"{self.set} {self.method} {self.rate:g} {self.decay:g} {self.schedule} {self.seed}"


@dataclass(frozen=True)
class Result:
    """Text-to-image retrieval of a tuned model."""

    validation: float
    """R@5 on the validation split, in [0, 1]: what choices are made by."""
    hits: str
    """'1' for each caption of the test split with a relevant image among the first five, else '0'."""
    guard: float
    """R@5 on the guard, in [0, 1]; 0 without one."""
    seconds: float
    """CPU time of the training."""

    @property
    def recall(self) -> float:
        """R@5 on the test split, in [0, 1]."""
        return self.hits.count("1") / len(self.hits)


def measured(model: Clip, of: QualitySet, folder: Path, seconds: float) -> Result:
    """Return the figures of a model."""
    validation = hits(encode_pairs(model, of.read(folder, "validation")))
    guard = hits(encode_pairs(model, of.read(folder, GUARD))) if of.has_guard else np.zeros(1)
    test = hits(encode_pairs(model, of.read(folder, "test")))
    return Result(float(validation.mean()), "".join("1" if hit else "0" for hit in test), float(guard.mean()), seconds)


def hits(encoded: EncodedPairs, k: int = 5) -> np.ndarray:
    """Return (texts,) bool: whether a relevant image is among the first k."""
    keys = np.array(encoded.vision_keys)
    first = np.argsort(-(encoded.text @ encoded.vision.T), axis=1, kind="stable")[:, :k]
    found: np.ndarray = (keys[first] == np.array(encoded.text_keys)[:, None]).any(axis=1)
    return found


def trained(job: Job, folder: Path) -> Clip:
    """Return the tuned model of a job."""
    of = SETS[job.set]
    model = of.load(folder)
    if job.method in LOOPS:
        _loop(job, of, model, folder)
    elif job.method != "pretrained":
        _run(job, of, model, folder)
    return model


def open_clip_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return open_clip's loss."""
    loss: torch.Tensor = ClipLoss()(image, text, scale)
    return loss


def ranking_loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the loss of sentence-transformers' MultipleNegativesRankingLoss: texts find images, at a fixed scale."""
    return cross_entropy(20 * text @ image.T, torch.arange(len(text), device=text.device))


REPLAYING_LOOP = "open_clip and replay"
LOOPS: Mapping[str, Callable[..., torch.Tensor]] = {
    "open_clip": open_clip_loss,
    "ranking": ranking_loss,
    REPLAYING_LOOP: open_clip_loss,
}
"""Name of a plain loop -> its loss. The last one has pairs of REPLAY in its batches, as many as a run with replay."""

OURS: Mapping[str, Mapping[str, Any]] = {
    "run": {},
    "replay": {"captions_per_image": 2, "distillation": 1.0},  # with pairs of REPLAY
    "lora": {"lora_rank": 8},
    "hard batches": {"hard_batches": 4},
    "hard negatives": {"hard_negatives": {"per_image": 1}},
}
"""Name of a run of ours, whose rate is looked for -> its training options."""

REPLAYING = "replay"
AS_THEY_ARE = ("default", "keep")
"""Recipes: nothing about them is looked for."""


def _loop(job: Job, of: QualitySet, model: Clip, folder: Path) -> None:
    """Train as people write it around open_clip: shuffled pairs, every caption a row, and open_clip's groups."""
    torch.manual_seed(job.seed)
    data = of.training_data(folder, model)
    rows = torch.tensor([row for row, captions in enumerate(data.captions) for _ in captions])
    tokens = model.tokenizer([caption for captions in data.captions for caption in captions])
    config = model.preprocess_config
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    network, crops = model.network.train(), torch.Generator().manual_seed(job.seed)
    flat = [weight for weight in network.parameters() if weight.ndim < 2]
    deep = [weight for weight in network.parameters() if weight.ndim >= 2]
    groups = [{"params": flat, "weight_decay": 0.0}, {"params": deep, "weight_decay": job.decay}]
    optimizer = torch.optim.AdamW(groups, lr=job.rate, betas=(0.9, 0.98), eps=1e-6)
    steps = steps_of(of, data)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(job.schedule, step, steps))
    beside = _shuffled_pairs(of.training_data(folder, model, REPLAY), model) if job.method == REPLAYING_LOOP else None
    order = torch.cat([torch.randperm(len(rows)) for _ in range(of.epochs)])
    for taken in order.split(of.batch_size)[:steps]:
        pixels, words = torch.from_numpy(data.pixels[rows[taken].numpy()]), tokens[taken]
        if beside is not None:
            drawn = [next(beside) for _ in taken]
            pixels = torch.cat([pixels, torch.stack([pair[0] for pair in drawn])])
            words = torch.cat([words, torch.stack([pair[1] for pair in drawn])])
        images = augment((pixels.float() / 255 - mean) / std, crops, crop_scale=CROPS, flips=False)
        texts = text_features(network, without_padding(network, words))
        image, text = (normalize(side.float(), dim=-1) for side in (network.encode_image(images), texts))
        optimizer.zero_grad()
        LOOPS[job.method](image, text, network.logit_scale.exp()).backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            network.logit_scale.clamp_(0, math.log(100))
    network.eval()


def _shuffled_pairs(data: TrainingData, model: Clip) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (3, size, size) uint8 images with (context,) int64 tokens of each caption, over and over."""
    rows = [(row, caption) for row, captions in enumerate(data.captions) for caption in captions]
    tokens = model.tokenizer([caption for _, caption in rows])
    while True:
        for position in torch.randperm(len(rows)).tolist():
            yield torch.from_numpy(data.pixels[rows[position][0]]), tokens[position]


def steps_of(of: QualitySet, data: Any) -> int:
    """Return the number of steps of a run, which every loop takes too."""
    return of.epochs * len(range(0, len(data) - 1, of.batch_size))


def _factor(schedule: str, step: int, steps: int) -> float:
    if schedule == CONSTANT:
        return 1.0
    warm_up = round(WARM_UP * steps)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


def _run(job: Job, of: QualitySet, model: Clip, folder: Path) -> None:
    """Train as the trainer does."""
    given: dict[str, Any] = {}
    if job.method in OURS:
        given = {"optimizer": "AdamW", "optimizer_options": {"weight_decay": job.decay}, "scheduler": job.schedule}
        given |= {"learning_rate": job.rate, "training_options": dict(OURS[job.method])}
    recipe = job.method if job.method in AS_THEY_ARE else None
    config = RunConfig(
        of.backbone,
        "train",
        model_artifact="start" if find_backbone(of.backbone).in_artifacts else "",
        epochs=of.epochs,
        batch_size=of.batch_size,
        device="cpu",
        seed=job.seed,
        **with_recipe(recipe, given, find_backbone(of.backbone)),
    )
    progress = Progress(model)
    adapters = TrainAdapters(config.options.lora_rank, None, job.seed) if config.options.lora_rank else None
    mixes = [MixWeights(callback.alpha) for callback in read_callbacks(config.callbacks)]  # WiSE-FT, of a recipe
    hooks: Sequence[Hook] = [
        *([MergeAdapters(adapters)] if adapters else []),
        *mixes,
        *([adapters] if adapters else []),
    ]
    for hook in hooks:
        hook.before_training(progress)
    replays = of.has_guard and job.method in ("keep", REPLAYING)
    replay = of.training_data(folder, model, REPLAY) if replays else None
    task = ClipTask(model, of.training_data(folder, model), config, of.batch_size, replay=replay)
    rate = config.learning_rate or default_learning_rate(config)
    Training(task, progress, config, learning_rate=rate, report=lambda step: None, hooks=hooks).run()
    for hook in hooks:
        hook.choose_weights(progress)
