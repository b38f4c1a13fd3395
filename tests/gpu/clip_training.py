"""Training of a ViT-B-32 in bf16: pairs a second of our loop beside plain ones, from memory, cache and JPEGs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from open_clip import ClipLoss
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import TrainingData, prepare
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.learner import Learner
from finetuner.models.clip import Clip, text_features, without_padding
from finetuner.models.pixels import normalised
from tests.benchmarks.train_speed import SET, Files, drawn_captions, vit_b_32, write_jpegs
from tests.gpu.part import Part
from tests.gpu.runs import RATE, run_config, train

BACKBONE = "ViT-B-32::openai"
GRAD_CACHE = 8  # times the batch
LARGEST = 16  # times the batch, of which the largest that fits is looked for


def figures(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the figures of training."""
    sizes = part.sizes
    batch, pairs = sizes.batch, sizes.batch * sizes.steps
    model = vit_b_32(batch, pairs, sizes.layers, part.device).model
    captions = [[caption] for caption in drawn_captions(pairs)]
    pixels = np.random.default_rng(0).integers(0, 255, (pairs, 3, 224, 224), dtype=np.uint8)
    data = TrainingData(pixels, captions)
    tokens = model.tokenizer([caption for (caption,) in captions])
    yield "batch", batch
    yield "tokens_longest", int(tokens.argmax(-1).max()) + 1
    flops = _flops_per_pair(part, model, tokens[:batch])
    roofline = part.roofline()
    yield "gflop_per_pair", round(flops / 1e9, 2)

    bare = Bare(part, model, torch.from_numpy(pixels), tokens, batch, whole_context=False)
    ours, plain = [], []
    for _ in range(sizes.rounds):
        ours.append(_train(part, model, data, batch))
        plain.append(bare.pairs_per_second())
    found = sorted(ours, key=lambda entry: float(entry["pairs_per_second"]))[len(ours) // 2]
    yield "memory", found | {"roofline_share": round(found["pairs_per_second"] * flops / roofline, 4)}
    yield "bare_loop_pairs_per_second", round(median(plain))
    ratios = [one["pairs_per_second"] / other for one, other in zip(ours, plain, strict=True)]
    yield "vs_bare_loop", round(median(ratios), 3)
    whole = Bare(part, model, torch.from_numpy(pixels), tokens, batch, whole_context=True)
    yield "open_clip_loop_pairs_per_second", round(whole.pairs_per_second())
    del bare, whole

    with tempfile.TemporaryDirectory() as name:
        yield from _from_jpegs(part, model, Path(name), flops, roofline)
    if sizes.compiles:
        compiled = vit_b_32(batch, pairs, sizes.layers, part.device).model
        started = time.perf_counter()
        found = _train(part, compiled, data, batch, {"compile": True})
        found["seconds"] = round(time.perf_counter() - started, 1)
        yield "compiled", found | {"roofline_share": round(found["pairs_per_second"] * flops / roofline, 4)}
    large = RepeatedRows(data, 2 * GRAD_CACHE * batch)
    yield "grad_cache_8x", _train(part, model, large, GRAD_CACHE * batch, {"micro_batch_size": batch})
    yield "measured_batch", _measured_batch(part, model, data, batch)


class RepeatedRows(TrainingData):
    """Rows of data, over and over, so that a large batch needs no more memory.

    Args:
        data: the rows.
        count: rows in all.
    """

    def __init__(self, data: TrainingData, count: int) -> None:
        super().__init__(data.pixels, [data.captions[row % len(data)] for row in range(count)])

    def fetch(self, plan: Any) -> tuple[np.ndarray, list[str]]:
        """Return the rows of a batch."""
        return self.pixels[plan.rows % len(self.pixels)], self.captions_of(plan)


def _train(
    part: Part, model: Clip, data: TrainingData, batch: int, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train with `training_options`; the micro batch is the batch unless they set one."""
    options = {"micro_batch_size": batch} | (options or {})
    config = run_config(part, BACKBONE, batch, optimizer="AdamW", training_options=options)
    return train(part, ClipTask(model, data, config, batch), config)


class Bare:
    """A loop over images and tokens that lie on the device: no order, no crops, no reports.

    Args:
        part: of the check.
        model: tuned in place.
        pixels: (pairs, 3, size, size) uint8.
        tokens: (pairs, context) int64.
        batch: pairs in a step.
        whole_context: as open_clip does: the text tower reads the padding, too. False cuts it, as our loop does.
    """

    def __init__(
        self, part: Part, model: Clip, pixels: torch.Tensor, tokens: torch.Tensor, batch: int, *, whole_context: bool
    ) -> None:
        self._part = part
        self._network = model.network
        self._pixels = pixels.to(part.device)
        self._tokens = [
            (rows if whole_context else without_padding(model.network, rows)).to(part.device)
            for rows in tokens.split(batch)
        ]
        self._batch = batch
        self._whole_context = whole_context
        preprocess = model.preprocess_config
        self._mean, self._std = (
            torch.tensor(values, device=part.device).view(1, 3, 1, 1) for values in (preprocess.mean, preprocess.std)
        )
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=RATE, fused=True)
        self._loss = ClipLoss()

    def pairs_per_second(self) -> float:
        """Return the speed of an epoch, after one for warm-up."""
        self._epoch()
        self._part.wait()
        started = time.perf_counter()
        self._epoch()
        self._part.wait()
        return len(self._pixels) / (time.perf_counter() - started)

    def _epoch(self) -> None:
        self._network.train()
        for pixels, tokens in zip(self._pixels.split(self._batch), self._tokens, strict=True):
            self._step(normalised(pixels, self._mean, self._std), tokens)

    def _step(self, images: torch.Tensor, tokens: torch.Tensor) -> None:
        network = self._network
        with torch.autocast(self._part.device, torch.bfloat16, enabled=self._part.on_gpu):
            image = torch.nn.functional.normalize(network.encode_image(images), dim=-1)
            text = network.encode_text(tokens) if self._whole_context else text_features(network, tokens)
            text = torch.nn.functional.normalize(text, dim=-1)
            loss = self._loss(image, text, network.logit_scale.exp())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def _flops_per_pair(part: Part, model: Clip, tokens: torch.Tensor) -> float:
    """Return the FLOP of a step, forward and backward, a pair."""
    with FlopCounterMode(display=False) as counter:
        images = torch.zeros(len(tokens), 3, 224, 224, device=part.device)
        with torch.autocast(part.device, torch.bfloat16, enabled=part.on_gpu):
            image = model.network.encode_image(images)
            used = without_padding(model.network, tokens).to(part.device)
            (image.sum() + text_features(model.network, used).sum()).backward()
    model.network.zero_grad()
    return counter.get_total_flops() / len(tokens)


def _from_jpegs(
    part: Part, model: Clip, folder: Path, flops: float, roofline: float
) -> Iterator[tuple[str, dict[str, Any] | float]]:
    """Yield the figures of files: decoded once into the cache, trained from it, and read by a plain loop."""
    sizes, threads = part.sizes, len(os.sched_getaffinity(0))
    count = max(sizes.jpegs, sizes.batch * 2)
    pairs = write_jpegs(folder, count, SET)
    started = time.perf_counter()
    data = prepare(pairs, model, ImageCache(folder / "cache", 10**11), "images", threads)
    decoding = time.perf_counter() - started
    yield "jpegs_decoded_per_second", round(count / decoding, 1)
    found = _train(part, model, data, sizes.batch)
    yield "cache", found | {"roofline_share": round(found["pairs_per_second"] * flops / roofline, 4)}
    yield "first_epoch_from_jpegs_pairs_per_second", round(count / (decoding + count / found["pairs_per_second"]), 1)
    yield "open_clip_loop_from_jpegs_pairs_per_second", round(_plain_from_jpegs(part, model, folder, pairs, threads), 1)


def _plain_from_jpegs(part: Part, model: Clip, folder: Path, pairs: Sequence[Any], workers: int) -> float:
    """Return pairs a second of a loop over a DataLoader of processes, in its second epoch."""
    loader = DataLoader(
        Files(folder, [pair.text for pair in pairs], model),
        part.sizes.batch,
        shuffle=True,
        num_workers=workers if part.on_gpu else 0,
        persistent_workers=part.on_gpu,
        pin_memory=part.on_gpu,
        drop_last=True,
    )
    optimizer, loss = torch.optim.AdamW(model.network.parameters(), lr=RATE, fused=True), ClipLoss()

    def epoch() -> float:
        started = time.perf_counter()
        for pixels, tokens in loader:
            with torch.autocast(part.device, torch.bfloat16, enabled=part.on_gpu):
                outputs = model.network(
                    pixels.to(part.device, non_blocking=True), tokens.to(part.device, non_blocking=True)
                )
                value = loss(*outputs)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        part.wait()
        return len(loader) * part.sizes.batch / (time.perf_counter() - started)

    epoch()
    return epoch()


def _measured_batch(part: Part, model: Clip, data: TrainingData, batch: int) -> dict[str, Any]:
    """Return the largest batch that a run finds to fit, and what it trains with it."""
    started = time.perf_counter()
    large = RepeatedRows(data, LARGEST * batch)
    AcceleratorState._reset_state()
    config = run_config(part, BACKBONE, LARGEST * batch, epochs=1, optimizer="AdamW")
    task = ClipTask(model, large, config, LARGEST * batch)
    found = Learner(task, config, RATE).find_micro_batch()
    return {"of": LARGEST * batch, "fits": found, "seconds": round(time.perf_counter() - started, 1)}
