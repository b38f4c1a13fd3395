"""Whether training on scores ranks better by these scores than training without them, on a graded catalogue.

The score of a caption and an image is the share of attributes that their garments have in common: garment, colour,
pattern, and each of the others that one of the two has. Trained are each image's own caption and, for each caption,
the PARTNERS images of the highest scores among CANDIDATES drawn items. Both runs see the same pairs in the same order
for as many steps, once with scores (CLIPLoss with linear weights) and once without (InfoNCE). Prints one JSON object
last; all numbers but the gains are nDCG at 10, text to image, with the score as linear gain, in [0, 1]:

    ndcg_at_10_graded               trained images, searched by captions that training has not seen
    ndcg_at_10_infonce
    ndcg_at_10_pretrained
    relative_gain                   graded over InfoNCE, as a share of InfoNCE's
    ndcg_at_10_graded_unseen        images and captions of the test split, whose designs training has not seen
    ndcg_at_10_infonce_unseen
    ndcg_at_10_pretrained_unseen
    relative_gain_unseen_queries
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, replace
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random

import torch

from finetuner.catalogue import fashion
from finetuner.catalogue.designs import Design, designs
from finetuner.catalogue.image import CatalogueImage
from finetuner.config.run_config import RunConfig
from finetuner.demo.demo import MODEL, RECIPE
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs, text_to_image_graded_ndcg
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import prepare
from finetuner.executors.trainer.execution import default_learning_rate
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.loop.clip_task import ClipTask
from finetuner.executors.trainer.loop.training import Training
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone

PROCESSES = 2
ITEMS = 1500
PARTNERS, CANDIDATES = 4, 60
MOST_SEARCHED = 300
"""Images, and captions, of an evaluation: each caption has a score for each image."""
RUNS = ("pretrained", "infonce", "graded")


def overlap(one: Design, other: Design) -> float:
    """Return the share of attributes that two designs have in common, in [0, 1]; one that both lack does not count."""
    both = [pair for pair in zip(astuple(one), astuple(other), strict=True) if any(pair)]
    return sum(a == b for a, b in both) / len(both)


@cache
def catalogue(split: str, items: int | None) -> list[tuple[Design, CatalogueImage, CatalogueImage]]:
    """Return the design and the two images of each item."""
    images = list(fashion(split, items=items))
    wanted, known = {image.item for image in images}, {}
    for item, design in designs(0):
        if item in wanted:
            known[item] = design
        if len(known) == len(wanted):
            break
    return [(known[first.item], first, second) for first, second in zip(images[::2], images[1::2], strict=True)]


def training_pairs(items: int) -> Iterator[Pair]:
    """Yield the caption of each item's first image with that image and with its partners'."""
    entries, rng = catalogue("train", items), Random(0)
    for own, image, _ in entries:
        yield Pair(image.captions["en"], image.jpeg, score=1.0)
        drawn = rng.sample(entries, min(CANDIDATES, len(entries)))
        others = [(overlap(own, design), other) for design, other, _ in drawn if other is not image]
        for score, other in sorted(others, key=lambda entry: -entry[0])[:PARTNERS]:
            yield Pair(image.captions["en"], other.jpeg, score=score)


def searched(split: str, items: int | None) -> Iterator[Pair]:
    """Yield the captions of the second images with the first images of all items, each with a score."""
    entries = list(islice(catalogue(split, items), MOST_SEARCHED))
    for own, _, asked in entries:
        for design, image, _ in entries:
            yield Pair(asked.captions["en"], image.jpeg, score=overlap(own, design))


def tuned(pairs: Sequence[Pair], epochs: int, seed: int) -> Clip:
    """Return clip-mini after a run on pairs."""
    model = load_backbone(find_backbone(MODEL))
    recipe = RECIPE | {"learning_rate": None, "epochs": epochs, "device": "cpu", "seed": seed}
    config = RunConfig(MODEL, "train", **recipe)
    with tempfile.TemporaryDirectory() as name:
        data = prepare(pairs, model, ImageCache(Path(name), 10**9), "train", 1)
        task = ClipTask(model, data, config, RECIPE["batch_size"])
        rate = default_learning_rate(config)
        Training(task, Progress(model), config, learning_rate=rate, report=lambda step: None, hooks=[]).run()
    return model


def measured(run: str, items: int, epochs: int, seed: int) -> dict[str, float]:
    """Return the nDCG of one of RUNS on both kinds of queries."""
    if run == "pretrained":
        model = load_backbone(find_backbone(MODEL))
    else:
        pairs = list(training_pairs(items))
        model = tuned(pairs if run == "graded" else [replace(pair, score=None) for pair in pairs], epochs, seed)
    name = text_to_image_graded_ndcg()
    return {
        f"ndcg_at_10_{run}": evaluate_pairs(model, searched("train", items))[name],
        f"ndcg_at_10_{run}_unseen": evaluate_pairs(model, searched("test", None))[name],
    }


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description="nDCG of training with and without scores.")
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"], help="passes over the images")
    parser.add_argument("--items", type=int, default=ITEMS, help="garments to train on")
    parser.add_argument("--seed", type=int, default=0, help="of order, captions and crops")
    given = parser.parse_args()
    found: dict[str, float] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(measured, run, given.items, given.epochs, given.seed) for run in RUNS]):
            found |= done.result()
            print(done.result(), file=sys.stderr, flush=True)
    for name, kind in (("relative_gain", ""), ("relative_gain_unseen_queries", "_unseen")):
        found[name] = found[f"ndcg_at_10_graded{kind}"] / found[f"ndcg_at_10_infonce{kind}"] - 1
    settings = {"epochs": given.epochs, "items": given.items, "seed": given.seed, "partners": PARTNERS}
    print(json.dumps({**found, **settings, "processes": PROCESSES, "threads": 1, "device": "cpu"}))


if __name__ == "__main__":
    main()
