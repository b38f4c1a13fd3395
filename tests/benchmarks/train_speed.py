"""Pairs a second of our training loop on a CPU, beside two plain ones. tests/gpu has the figures of a GPU.

Three loops take turns, an epoch each, round by round in one process, on clip-mini and on a ViT-B-32 cut to
two layers a tower:

    ours   `Training`, as a run sets it up, its images decoded before (as from the second epoch on)
    bare   a `for` loop over the same images and tokens as tensors in memory: no order, no crops, no reports
    jpeg   a `for` loop over a DataLoader that reads the JPEGs through open_clip's own transform, order shuffled

All are fp32; the plain ones leave torch's settings as they are, a run of a large model prefers oneDNN. `vs_bare_onednn`
is over a bare loop that does so, too.

A ratio is the median over the rounds of that round's seconds, the other loop's by ours; `_cpu` is the same of the
CPU seconds of all threads and of the DataLoader's processes. JPEGs come in two sizes: as cameras write them, and as
sets for training are distributed. Prints one JSON object last, whose `vs_bare_loop`, `vs_jpeg_pipeline` (of a camera's
JPEGs) and `vs_small_jpeg_pipeline` are the lowest ratios of both models.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import psutil
import torch
from open_clip import ClipLoss
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from finetuner.catalogue import fashion
from finetuner.config.run_config import RunConfig
from finetuner.documents.pairs import Pair
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import TrainingData, prepare
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.acceleration import prefer_onednn
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip, text_features, without_padding
from finetuner.models.clip_files import load_backbone
from finetuner.models.text.clip_tokenizer import open_clip_tokenizer

RATE = 1e-5
SET, CAMERA = "500x375", "4000x3000"  # pixels; the former as in Flickr30k
NOISE = 8  # standard deviation, of 255: a photograph's file, not a drawing's
DRAWN = 8  # images; all others are their files again
COMMENT = b"\xff\xfe\x00\x0a"  # of a JPEG, with eight characters
CAPTIONS = 256  # different ones; drawing their images takes time


@dataclass(frozen=True)
class Case:
    """A model and how much of it is timed."""

    model: Clip
    backbone: str
    """Row of the configuration."""
    batch: int
    pairs: int
    """An epoch; whole batches."""


def clip_mini() -> Case:
    """Return the packaged model."""
    return Case(load_backbone(find_backbone("clip-mini")), "clip-mini", batch=128, pairs=128)


def vit_b_32(batch: int, pairs: int, layers: int | None, device: str) -> Case:
    """Return a ViT-B-32 of random weights.

    Args:
        batch: pairs a step.
        pairs: an epoch.
        layers: of each tower; None keeps its twelve.
        device: torch's name of a device.
    """
    config: dict[str, Any] = open_clip.get_model_config("ViT-B-32")
    if layers is not None:
        for tower in ("vision_cfg", "text_cfg"):
            config[tower] = config[tower] | {"layers": layers}
    torch.manual_seed(0)
    network = open_clip.create_model("ViT-B-32", device=device, **config)
    model = Clip(network.eval(), open_clip_tokenizer("ViT-B-32"), config, "ViT-B-32")
    return Case(model, "ViT-B-32::openai", batch, pairs)


def write_jpegs(folder: Path, count: int, size: str) -> list[Pair]:
    """Write some of the catalogue's images, enlarged and with noise, as 0.jpg, 1.jpg, ...; return them as pairs.

    Args:
        folder: where to.
        count: of files, no two of them the same.
        size: 'WIDTHxHEIGHT', pixels.
    """
    width, height = map(int, size.split("x"))
    noise = np.random.default_rng(0).normal(0, NOISE, (height, width, 3))
    captions = drawn_captions(count)
    drawn: list[bytes] = []
    pairs: list[Pair] = []
    for image in islice(fashion("train", items=DRAWN), DRAWN):
        small = Image.open(io.BytesIO(image.jpeg)).convert("RGB")
        large = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
        buffer = io.BytesIO()
        Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        drawn.append(buffer.getvalue())
    for number, caption in enumerate(captions):
        file = drawn[number % DRAWN]
        jpeg = file[:2] + COMMENT + b"%08d" % number + file[2:]  # another file of the same image
        (folder / f"{number}.jpg").write_bytes(jpeg)
        pairs.append(Pair(caption, jpeg))
    return pairs


def drawn_captions(count: int) -> list[str]:
    """Return English captions of the catalogue; past CAPTIONS they begin again."""
    found = [image.captions["en"] for image in islice(fashion("train", items=-(-CAPTIONS // 2)), min(count, CAPTIONS))]
    return [found[number % len(found)] for number in range(count)]


def by_onednn(epoch: Callable[[], None], case: Case) -> Callable[[], None]:
    """Return an epoch with the matrix products of a run."""

    def run() -> None:
        before = torch.backends.mkldnn.matmul.fp32_precision
        prefer_onednn(case.model.network)
        epoch()
        torch.backends.mkldnn.matmul.fp32_precision = before

    return run


def ours(case: Case, data: TrainingData) -> Callable[[], None]:
    """Return an epoch of our loop."""
    config = RunConfig(
        case.backbone,
        train_data="x",
        epochs=1,
        optimizer="AdamW",
        batch_size=case.batch,
        device=case.model.device.type,
        training_options={"micro_batch_size": case.batch},  # else a run first measures what fits
    )
    progress, task = Progress(case.model), ClipTask(case.model, data, config, case.batch)
    return by_onednn(Training(task, progress, config, learning_rate=RATE, report=lambda step: None).run, case)


class Bare:
    """An epoch over tensors in memory."""

    def __init__(self, case: Case, data: TrainingData) -> None:
        preprocess = case.model.preprocess_config
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocess.mean, preprocess.std))
        self._pixels = (torch.from_numpy(np.array(data.pixels)).float() / 255 - mean) / std
        self._tokens = case.model.tokenizer([captions[0] for captions in data.captions])
        self._batch = case.batch
        self._network = case.model.network
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=RATE, fused=True)
        self._loss = ClipLoss()

    def __call__(self) -> None:
        """Train."""
        self._network.train()
        for start in range(0, len(self._pixels), self._batch):
            rows = slice(start, start + self._batch)
            image = torch.nn.functional.normalize(self._network.encode_image(self._pixels[rows]), dim=-1)
            tokens = without_padding(self._network, self._tokens[rows])
            text = torch.nn.functional.normalize(text_features(self._network, tokens), dim=-1)
            self._optimizer.zero_grad()
            self._loss(image, text, self._network.logit_scale.exp()).backward()
            self._optimizer.step()


class Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """JPEGs through open_clip's transform, texts through its tokenizer."""

    def __init__(self, folder: Path, captions: list[str], model: Clip) -> None:
        preprocess = model.preprocess_config
        self._folder = folder
        self._captions = captions
        self._tokenizer = model.tokenizer
        self._transform = open_clip.image_transform(
            preprocess.size, is_train=False, mean=preprocess.mean, std=preprocess.std
        )

    def __len__(self) -> int:
        return len(self._captions)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self._transform(Image.open(self._folder / f"{row}.jpg"))
        return image, self._tokenizer([self._captions[row]])[0]


class Jpeg:
    """An epoch over files, by processes that live through all epochs."""

    def __init__(self, case: Case, files: Files, workers: int) -> None:
        self._loader = DataLoader(
            files, case.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True
        )
        self._network = case.model.network
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=RATE, fused=True)
        self._loss = ClipLoss()

    def __call__(self) -> None:
        """Train."""
        self._network.train()
        for pixels, tokens in self._loader:
            image, text, scale = self._network(pixels, tokens)
            self._optimizer.zero_grad()
            self._loss(image, text, scale).backward()
            self._optimizer.step()


def seconds(epoch: Callable[[], None]) -> tuple[float, float]:
    """Return the wall-clock and CPU seconds of an epoch, with those of child processes."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    epoch()
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


def compared(case: Case, size: str, rounds: int, workers: int) -> dict[str, float]:
    """Return the ratios of one model with JPEGs of a size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write_jpegs(folder, case.pairs, size)
        data = prepare(pairs, case.model, ImageCache(folder, 10**9), "images", workers)
        bare, jpeg = Bare(case, data), Jpeg(case, Files(folder, [pair.text for pair in pairs], case.model), workers)
        ours(case, data)(), bare(), jpeg()  # warm-up
        found = [
            (seconds(ours(case, data)), seconds(bare), seconds(jpeg), seconds(by_onednn(bare, case)))
            for _ in range(rounds)
        ]
    ratios: dict[str, float] = {}
    for position, clock in enumerate(("", "_cpu")):
        for other, name in ((1, "vs_bare_loop"), (2, "vs_jpeg_pipeline"), (3, "vs_bare_onednn")):
            ratios[name + clock] = round(median(took[other][position] / took[0][position] for took in found), 3)
        ratios[f"pairs_per{clock}_second"] = round(case.pairs / median(took[0][position] for took in found), 1)
    print(case.backbone, size, ratios, file=sys.stderr, flush=True)
    return ratios


def on_cpu(rounds: int, threads: int, workers: int) -> dict[str, Any]:
    """Return the lowest ratios, and those of both models."""
    torch.set_num_threads(threads)
    cases = {"clip-mini": clip_mini(), "ViT-B-32, 2 layers": vit_b_32(32, 64, 2, "cpu")}
    models = {
        name: {size: compared(case, size, rounds, workers) for size in (SET, CAMERA)} for name, case in cases.items()
    }
    return {
        "vs_bare_loop": min(ratios["vs_bare_loop"] for sizes in models.values() for ratios in sizes.values()),
        "vs_jpeg_pipeline": min(sizes[CAMERA]["vs_jpeg_pipeline"] for sizes in models.values()),
        "vs_small_jpeg_pipeline": min(sizes[SET]["vs_jpeg_pipeline"] for sizes in models.values()),
        "models": models,
        "rounds": rounds,
        "threads": threads,
        "workers": workers,
        "device": "cpu",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of training, beside plain loops.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="that PyTorch computes with")
    parser.add_argument("--workers", type=int, default=1, help="of the DataLoader; ours decodes with as many threads")
    given = parser.parse_args()
    print(json.dumps(on_cpu(given.rounds, given.threads, given.workers)))


if __name__ == "__main__":
    main()
