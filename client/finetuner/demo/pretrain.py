"""Trains clip-mini from scratch on generated shapes: `python -m finetuner.demo.pretrain`."""

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
from finetuner.models.text.byte_pair_tokenizer import BytePairTokenizer, train_tokenizer

POOL = 30_000
"""Images, each drawn once. Their captions are generated anew in each step."""
BLOCK = 1_000
"""Images that a process draws at a time; a divisor of `POOL`."""
BATCH = 128
PEAK_RATE, WEIGHT_DECAY = 1.5e-3, 0.1
WARM_UP = 0.05
"""Share of the training in which the learning rate rises to its peak."""
SHIFT = 6
"""Pixels by which an image is shifted at most, at random in each step."""
VOCABULARY = 1021
"""Tokens of the tokenizer without its special ones: 256 bytes and merged byte pairs."""
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
    """Train a model, write its config, weights, tokenizer and figures, and return the figures.

    Args:
        out: folder for the files.
        seed: seed of shapes, captions and training.
        minutes: bound on drawing and training together. The learning rate follows the clock, so a busy machine makes
            fewer steps instead of taking longer.
        steps: number of steps, for a training that does not depend on the clock; `minutes` is then ignored.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    scenes, pool = _pool(seed)
    drawn = time.monotonic()

    words = randomness(seed, "tokenizer")
    sample = [describe(scene, language, words) for scene in scenes for language in LANGUAGES]
    train_tokenizer(sample, VOCABULARY, out / "tokenizer.json")
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
    """Train the model in place for `seconds`, or for exactly `steps`, and return the loss of each step."""
    rng = randomness(seed, "training")
    optimizer = torch.optim.AdamW(_groups(model), lr=PEAK_RATE, betas=(0.9, 0.98))
    clip_loss = open_clip.ClipLoss()
    losses: list[float] = []
    started = time.monotonic()
    while (done := len(losses) / steps if steps else (time.monotonic() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * _cosine(done)
        numbers = rng.sample(range(len(scenes)), BATCH)
        captions = [describe(scenes[number], rng.choice(LANGUAGES), rng) for number in numbers]
        images = _shifted(pool[numbers], rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            image, text, scale = model(images, tokenizer(captions))
        loss = clip_loss(image.float(), text.float(), scale)
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
    """Return the scenes and their images, (POOL, 3, SIDE, SIDE) uint8. One process per core draws them."""
    starts = range(0, POOL, BLOCK)
    with ProcessPoolExecutor() as workers:
        blocks = list(workers.map(_block, [seed] * len(starts), starts, [BLOCK] * len(starts)))
    pool = torch.from_numpy(np.concatenate(blocks)).permute(0, 3, 1, 2).contiguous()
    return [scene_of(seed, number) for number in range(POOL)], pool


def _block(seed: int, start: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the images from number `start` on, (size, SIDE, SIDE, 3) uint8, encoded as JPEG and decoded."""
    numbers = range(start, start + size)
    files = (draw(scene_of(seed, number), randomness(seed, "look", number)) for number in numbers)
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def _shifted(batch: torch.Tensor, rng: Random) -> torch.Tensor:
    """Shift images by a few pixels and normalise them: (batch, 3, SIDE, SIDE) uint8 -> the same shape, float32."""
    padded = torch.nn.functional.pad(batch.float(), (SHIFT,) * 4, mode="replicate")
    moved = torch.empty_like(batch, dtype=torch.float32)
    for row, source in zip(moved, padded, strict=True):
        left, top = rng.randint(0, 2 * SHIFT), rng.randint(0, 2 * SHIFT)
        row.copy_(source[:, top : top + SIDE, left : left + SIDE])
    mean, std = float(PREPROCESS["mean"][0]), float(PREPROCESS["std"][0])
    return (moved / 255 - mean) / std


def _groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay for matrices only, not for gains, biases and the logit scale."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]


def _cosine(done: float) -> float:
    """Return the share of the peak learning rate after the share `done` of training: warm-up, then a half cosine."""
    if done < WARM_UP:
        return max(done, 1e-3) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _has_bfloat16() -> bool:
    """Return whether the CPU computes in bfloat16; emulated bfloat16 is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def main() -> None:
    """Read the command line, train, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="bound on drawing and training together")
    parser.add_argument("--steps", type=int, help="number of steps; --minutes is then ignored")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("clip-mini"))
    parser.add_argument("--threads", type=int, help="threads of torch; 1 is faster than 2 on a busy machine")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    print(json.dumps(pretrain(given.out, given.seed, given.minutes, given.steps), indent=2))


if __name__ == "__main__":
    main()
