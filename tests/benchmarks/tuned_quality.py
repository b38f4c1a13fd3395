"""How good the default recipe, LoRA and WiSE-FT make clip-mini on the generated catalogue, beside a plain loop.

Trained is on the catalogue's train split, in both languages; WiSE-FT's sweep chooses on the validation split; all
else is text-to-image recall at 5 on the test split, in [0, 1]. Every run sees as many pairs in batches of as many, in
one of PROCESSES processes of one thread each. Prints one JSON object last:

    recall_at_5            of the default recipe
    best_plain_open_clip   of open_clip's loss, AdamW and a constant rate, the better of two rates
    lora_share_of_gain     LoRA's gain over the pretrained model, as a share of the default recipe's
    lora_trainable_share   of the parameters
    wise_ft_curve          [[share of tuned weights, recall at 5 on the validation split, mean of both directions]]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import ClipLoss

from finetuner.catalogue import fashion
from finetuner.config.run_config import RunConfig
from finetuner.demo.demo import MODEL, RECIPE
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs, text_to_image
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import TrainingData, prepare
from finetuner.executors.trainer.execution import default_learning_rate
from finetuner.executors.trainer.hooks.hook import Hook, Progress
from finetuner.executors.trainer.hooks.lora import MergeAdapters, TrainAdapters
from finetuner.executors.trainer.hooks.wise_ft import CURVE_FILE, SweepMixes
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone

PROCESSES = 2
LORA_RANK = 8
PLAIN_RATES = (1e-4, 1e-5)
MIXES = tuple(step / 10 for step in range(11))


@cache
def pairs_of(split: str, items: int | None) -> list[Pair]:
    """Return each image with each of its captions; relevant to a caption are all images of its garment."""
    return [
        Pair(caption, image.jpeg, image.item, language)
        for image in fashion(split, items=items)
        for language, caption in image.captions.items()
    ]


def recall(model: Clip) -> float:
    """Return text-to-image recall at 5 on the test split."""
    return evaluate_pairs(model, pairs_of("test", None))[text_to_image(5)]


class Score(Hook):
    """Scores the model before and after training."""

    def __init__(self) -> None:
        self.before = self.after = 0.0

    def before_training(self, progress: Progress) -> None:
        """Score what the run starts from."""
        assert isinstance(progress.model, Clip)
        self.before = recall(progress.model)

    def choose_weights(self, progress: Progress) -> None:
        """Score what the hooks before this one have left."""
        assert isinstance(progress.model, Clip)
        self.after = recall(progress.model)


def decoded(model: Clip, items: int | None, folder: Path) -> TrainingData:
    """Return the train split."""
    return prepare(pairs_of("train", items), model, ImageCache(folder, 10**9), "train", 1)


def tuned(hooks: Sequence[Hook], items: int | None, epochs: int, folder: Path, **options: Any) -> float:
    """Tune as a run does, let the hooks choose the weights, and return the share of parameters that was trained."""
    model = load_backbone(find_backbone(MODEL))
    recipe = RECIPE | {"learning_rate": None, "epochs": epochs, "device": "cpu"}
    config = RunConfig(MODEL, "train", training_options=options, **recipe)
    progress = Progress(model)
    for hook in hooks:
        hook.before_training(progress)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.network.parameters()]
    task = ClipTask(model, decoded(model, items, folder), config, RECIPE["batch_size"])
    rate = default_learning_rate(config)
    Training(task, progress, config, learning_rate=rate, report=lambda step: None, hooks=hooks).run()
    for hook in hooks:
        hook.choose_weights(progress)
    return sum(size for size, trains in sizes if trains) / sum(size for size, _ in sizes)


def default_recipe(items: int | None, epochs: int) -> dict[str, Any]:
    """Return the default recipe's recall, and the curve of its mixes with the pretrained weights."""
    with tempfile.TemporaryDirectory() as name:
        folder, score = Path(name), Score()
        sweep = SweepMixes(MIXES, pairs_of("validation", None), RunFolder(folder))
        tuned([score, sweep], items, epochs, folder)
        curve = json.loads((folder / CURVE_FILE).read_text())["curve"]
    return {"pretrained": score.before, "recall_at_5": score.after, "wise_ft_curve": curve}


def lora(items: int | None, epochs: int) -> dict[str, Any]:
    """Return the recall of adapters with their default learning rate, and what they train."""
    with tempfile.TemporaryDirectory() as name:
        adapters, score = TrainAdapters(LORA_RANK, None, seed=0), Score()
        hooks = [MergeAdapters(adapters), score, adapters]
        share = tuned(hooks, items, epochs, Path(name), lora_rank=LORA_RANK)
    return {"lora_recall_at_5": score.after, "lora_trainable_share": share}


def plain(rate: float, items: int | None, epochs: int) -> dict[str, Any]:
    """Return the recall of a loop as people write it around open_clip: shuffled pairs, every caption a row."""
    torch.manual_seed(0)
    model = load_backbone(find_backbone(MODEL))
    with tempfile.TemporaryDirectory() as name:
        data = decoded(model, items, Path(name))
        rows = torch.tensor([row for row, captions in enumerate(data.captions) for _ in captions])
        tokens = model.tokenizer([caption for captions in data.captions for caption in captions])
        mean, std = (
            torch.tensor(values).view(3, 1, 1) for values in (model.preprocess_config.mean, model.preprocess_config.std)
        )
        pixels = (torch.from_numpy(np.array(data.pixels)).float() / 255 - mean) / std
    network, loss_of, batch = model.network.train(), ClipLoss(), RECIPE["batch_size"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    order = torch.cat([torch.randperm(len(rows)) for _ in range(epochs)])[: epochs * len(data)]
    for taken in order.split(batch):
        loss = loss_of(*network(pixels[rows[taken]], tokens[taken]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    return {f"plain_open_clip_{rate:g}": recall(model)}


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description="Quality of tuning, beside a plain loop.")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"], help="passes over the images")
    parser.add_argument("--items", type=int, help="garments to train on; the catalogue's own number by default")
    given = parser.parse_args()
    jobs: list[Callable[[int | None, int], dict[str, Any]]]
    jobs = [default_recipe, lora, *(partial(plain, rate) for rate in PLAIN_RATES)]
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(job, given.items, given.epochs) for job in jobs]):
            found |= done.result()
            print(done.result(), file=sys.stderr, flush=True)
    gain = found["recall_at_5"] - found["pretrained"]
    found["best_plain_open_clip"] = max(found[f"plain_open_clip_{rate:g}"] for rate in PLAIN_RATES)
    found["lora_share_of_gain"] = (found["lora_recall_at_5"] - found["pretrained"]) / gain if gain else 0.0
    settings = {"lora_rank": LORA_RANK, "epochs": given.epochs, "processes": PROCESSES, "threads": 1, "device": "cpu"}
    print(json.dumps({**found, **settings}))


if __name__ == "__main__":
    main()
