"""Trains clip-mini from nothing, on generated shapes alone: ``python -m finetuner.demo.pretrain``."""

import argparse
import io
import json
import math
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from finetuner.catalogue.drawing.shape_image import SIDE, draw
from finetuner.catalogue.image import LANGUAGES, randomness
from finetuner.catalogue.scenes import Scene, scene_of
from finetuner.catalogue.words.shape_captions import describe
from finetuner.demo.figures import quality
from finetuner.models.byte_pair_tokenizer import BytePairTokenizer, train_tokenizer

POOL = 30_000
"""Images drawn once; captions are made anew every time an image comes up."""
BLOCK = 1_000
"""How many of them one process draws at a time; divides `POOL`."""
BATCH = 128
PEAK_RATE, WEIGHT_DECAY = 1.5e-3, 0.1
WARM_UP = 0.05
"""Share of the training in which the learning rate rises to its peak."""
SHIFT = 6
"""Images are moved by up to this many pixels each time they are shown."""
PAIRS = 1021
REPORT_EVERY = 100

MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "patch_size": 16, "width": 192, "layers": 4, "head_width": 64},
    "text_cfg": {"context_length": 48, "vocab_size": 0, "width": 128, "heads": 2, "layers": 3},
}
PREPROCESS: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def pretrain(out: Path, seed: int, minutes: float, steps: int | None = None) -> dict[str, float | str]:
    """Trains a model and writes config, weights, tokenizer and figures into ``out``; returns the figures.

    ``minutes`` bounds the whole; the learning rate then follows the clock, so that a busy machine makes fewer
    steps, not a longer training. Give ``steps`` for a run that does not depend on the clock.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    scenes, pool = _pool(seed)
    drawn = time.monotonic()

    words = randomness(seed, "tokenizer")
    sample = [describe(scene, language, words) for scene in scenes for language in LANGUAGES]
    train_tokenizer(sample, PAIRS, out / "tokenizer.json")
    context = MODEL["text_cfg"]["context_length"]
    tokenizer = BytePairTokenizer(out / "tokenizer.json", context)
    architecture = MODEL | {"text_cfg": MODEL["text_cfg"] | {"vocab_size": tokenizer.vocab_size}}
    model = open_clip.model.CLIP(**architecture)

    losses = _train(model, tokenizer, scenes, pool, seed, started + 60 * minutes - drawn, steps)
    done = len(losses)
    trained = time.monotonic()

    config = {"model_cfg": architecture, "preprocess_cfg": PREPROCESS}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(out / "open_clip_model.safetensors"))
    files = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json")
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures: dict[str, float | str] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": sum((out / name).stat().st_size for name in files),
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if _has_bfloat16() else "float32",
        "seed": seed,
        "steps": done,
        "batch": BATCH,
        "pool": POOL,
        "last_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "pairs_per_second": round(done * BATCH / (trained - drawn), 1),
        "cpu_minutes": round(sum(each.ru_utime + each.ru_stime for each in usage) / 60, 1),
        "wall_minutes": round((trained - started) / 60, 1),
    }
    figures |= quality(out, seed=seed + 1)
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _train(
    model: open_clip.CLIP,
    tokenizer: BytePairTokenizer,
    scenes: list[Scene],
    pool: torch.Tensor,
    seed: int,
    seconds: float,
    steps: int | None,
) -> list[float]:
    """Trains in place for ``seconds``, or for exactly ``steps``; returns the loss of each step."""
    rng = randomness(seed, "training")
    optimizer = torch.optim.AdamW(_groups(model), lr=PEAK_RATE, betas=(0.9, 0.98))
    contrast = open_clip.ClipLoss()
    losses: list[float] = []
    begun = time.monotonic()
    while (done := len(losses) / steps if steps else (time.monotonic() - begun) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * _cosine(done)
        chosen = rng.sample(range(len(scenes)), BATCH)
        captions = [describe(scenes[number], rng.choice(LANGUAGES), rng) for number in chosen]
        images = _shifted(pool[chosen], rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            shown, asked, scale = model(images, tokenizer(captions))
        loss = contrast(shown.float(), asked.float(), scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if len(losses) % REPORT_EVERY == 0:
            recent = sum(losses[-REPORT_EVERY:]) / REPORT_EVERY
            print(f"step {len(losses)}, {done:.0%} done, loss {recent:.3f}", file=sys.stderr, flush=True)
    return losses


def _pool(seed: int) -> tuple[list[Scene], torch.Tensor]:
    """The scenes and their images, (POOL, 3, SIDE, SIDE) uint8, drawn by one process per core."""
    starts = range(0, POOL, BLOCK)
    with ProcessPoolExecutor() as workers:
        blocks = list(workers.map(_block, [seed] * len(starts), starts, [BLOCK] * len(starts)))
    pool = torch.from_numpy(np.concatenate(blocks)).permute(0, 3, 1, 2).contiguous()
    return [scene_of(seed, number) for number in range(POOL)], pool


def _block(seed: int, start: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images ``start`` to ``start + size - 1``, (size, SIDE, SIDE, 3) uint8, through JPEG and back."""
    numbers = range(start, start + size)
    files = (draw(scene_of(seed, number), randomness(seed, "look", number)) for number in numbers)
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def _shifted(batch: torch.Tensor, rng: Random) -> torch.Tensor:
    """(n, 3, SIDE, SIDE) uint8 -> the same moved a few pixels and normalised, float32."""
    padded = torch.nn.functional.pad(batch.float(), (SHIFT,) * 4, mode="replicate")
    moved = torch.empty_like(batch, dtype=torch.float32)
    for row, source in zip(moved, padded, strict=True):
        left, top = rng.randint(0, 2 * SHIFT), rng.randint(0, 2 * SHIFT)
        row.copy_(source[:, top : top + SIDE, left : left + SIDE])
    mean, std = float(PREPROCESS["mean"][0]), float(PREPROCESS["std"][0])
    return (moved / 255 - mean) / std


def _groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only: gains, biases and the logit scale are left free."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]


def _cosine(done: float) -> float:
    """Share of the peak rate when the share ``done`` of the training is over: warm-up, then half a cosine."""
    if done < WARM_UP:
        return max(done, 1e-3) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 itself; emulated it would be slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def main() -> None:
    """Reads the command line, trains, prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="bound on the training, drawing included")
    parser.add_argument("--steps", type=int, help="exactly this many steps, however long they take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("clip-mini"))
    parser.add_argument("--threads", type=int, help="1 is faster than 2 where something else is running")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    print(json.dumps(pretrain(given.out, given.seed, given.minutes, given.steps), indent=2))


if __name__ == "__main__":
    main()
