"""Pairs a second of our training loop against a bare loop over the same tensors, in turn, in one process.

Prints one JSON object last: `vs_bare_loop` is the ratio of CPU time per step, bare over ours (1 is no overhead).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from open_clip import ClipLoss

from executors.trainer.hooks import Progress
from executors.trainer.training import train
from executors.trainer.training_data import TrainingData, prepare
from finetuner.backbones import find_backbone
from finetuner.catalogue import fashion
from finetuner.clip import Clip, load_backbone, text_features
from finetuner.pairs import Pair
from finetuner.run_config import RunConfig

ITEMS, BATCH, EPOCHS, ROUNDS = 128, 128, 4, 5


def ours(model: Clip, data: TrainingData) -> float:
    """Return CPU seconds of training for EPOCHS."""
    config = RunConfig(model="clip-mini", train_data="x", epochs=EPOCHS, optimizer="AdamW", batch_size=BATCH)
    started = time.process_time()
    train(Progress(model), data, config, learning_rate=1e-4, batch_size=BATCH, report=lambda step: None)
    return time.process_time() - started


def bare(model: Clip, data: TrainingData) -> float:
    """Return CPU seconds of as many steps on tensors in memory: no crops, no captions drawn, no reports."""
    mean, std = 127.5, 64.0
    pixels = torch.from_numpy(np.array(data.pixels)).float().sub(mean).div(std)
    tokens = model.tokenizer([captions[0] for captions in data.captions])
    loss_of = ClipLoss()
    started = time.process_time()
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=1e-4, fused=True)
    model.network.train()
    for _ in range(EPOCHS):
        for start in range(0, len(data), BATCH):
            image = torch.nn.functional.normalize(model.network.encode_image(pixels[start : start + BATCH]), dim=-1)
            text = torch.nn.functional.normalize(text_features(model.network, tokens[start : start + BATCH]), dim=-1)
            optimizer.zero_grad()
            loss_of(image, text, model.network.logit_scale.exp()).backward()
            optimizer.step()
    return time.process_time() - started


def main() -> None:
    """Measure and print."""
    pairs = [Pair(picture.captions["en"], picture.jpeg) for picture in fashion("train", items=ITEMS)]
    model = load_backbone(find_backbone("clip-mini"))
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(pairs, model, Path(folder) / "pixels.npy", 2)
        ours(model, data), bare(model, data)  # warm-up
        rounds = [(ours(model, data), bare(model, data)) for _ in range(ROUNDS)]
    seen = len(data) * EPOCHS
    print(
        json.dumps(
            {
                "vs_bare_loop": round(median(theirs / own for own, theirs in rounds), 3),
                "pairs_per_cpu_second": round(seen / median(own for own, _ in rounds), 1),
                "batch": BATCH,
                "rounds": ROUNDS,
                "threads": torch.get_num_threads(),
                "device": "cpu",
            }
        )
    )


if __name__ == "__main__":
    main()
