"""The loop of a search that learns: people search, mark, and the marks make the next live model. Twice.

A real Flow serves clip-mini, as it comes, over the images of the generated catalogue: garments of the train split, that
people search, and of the test split, that nobody does. In each round simulated people search with captions that no
other round has, English and German. They know which garment they mean, look at rank r with probability r ** -BIAS, and
choose what they mean if they see it; they err with MISSED and WRONG. Who finds nothing refuses the best match in half
of the cases. Then `finetuner.improve` learns from all marks so far: the recipe `keep`, with replay of shapes (as
tuned_quality.py has them), a guard of others, and the correction of position bias. It promotes the result, or says
why not.

Held-out queries are the captions of the test split, which no mark and no training has. Relevant are the images of their
garment. All is measured by searches of the Flow with the live model. The guard of the result is a third set of
shapes: the run chooses its mix of weights by the other one. Prints one JSON object last. Its lists have the start, then
each round:

    recall_at_5               of held-out queries, over all images, in [0, 1]
    recall_at_5_test_images   the same, over the images of the test split alone
    guard                     mean R@5 of both directions on shapes, of the live model
    rounds                    [marks, training pairs, held-out pairs of marks, R@5 on these before and after, ...]

    python tests/benchmarks/feedback_loop.py --items 250 --rounds 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

os.environ.setdefault("JINA_OPTOUT_TELEMETRY", "1")

import numpy as np
from docarray import Document, DocumentArray

import finetuner
from finetuner.catalogue import fashion, shapes
from finetuner.catalogue.image import CatalogueImage
from finetuner.documents.pairs import make_pair
from finetuner.evaluation.pairs import mean_recall
from finetuner.flow.running_flow import RunningFlow

SHOWN, PEOPLE = 20, 3  # matches on a page; people with the same query
BIAS, MISSED, WRONG = 0.5, 0.05, 0.01
GUARD, REPLAY, MEASURED = "guard", "replay", "guard-measured"
GUARD_SEED, REPLAY_SEED, MEASURED_SEED = 11, 12, 13  # clip-mini was pretrained on others
BATCH, RATE = 32, 5e-4  # few marks make few steps: smaller ones, and more of them
TOLERANCE = 0.02  # of the guard's R@5


@dataclass(frozen=True)
class Round:
    """What a round has learned from, and its result."""

    queries: int
    marks: int
    pairs: int
    held_out_pairs: int
    before: float
    after: float
    promoted: bool
    reason: str
    seconds: float


def main() -> None:
    """Run the loop and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=250, help="garments that people search, of two images each")
    parser.add_argument("--rounds", type=int, choices=(1, 2), default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--replay", type=int, default=500, help="shapes to replay")
    parser.add_argument("--test-items", type=int, default=100, help="garments of held-out queries")
    parser.add_argument("--guard", type=int, default=200, help="shapes of each guard")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningFlow(folder) as flow:
        finetuner.login(host=flow.host)
        found = loop(given.items, given.test_items, given.rounds, given.epochs, given.replay, given.guard)
        print(json.dumps(found))


def loop(items: int, test_items: int, rounds: int, epochs: int, replay: int, kept: int) -> dict[str, Any]:
    """Return the figures of a loop on the Flow of this login, whose index is empty and has no marks."""
    shop, aside = list(fashion("train", items=items)), list(fashion("test", items=test_items))
    for name, count, seed in (
        (GUARD, kept, GUARD_SEED),
        (REPLAY, replay, REPLAY_SEED),
        (MEASURED, kept, MEASURED_SEED),
    ):
        finetuner.push_data(name, DocumentArray(_pairs(list(shapes(count, seed=seed)))))
    finetuner.promote("clip-mini")
    finetuner.index(
        DocumentArray(
            Document(id=image.name, blob=image.jpeg, tags={"split": split})
            for split, images in (("train", shop), ("test", aside))
            for image in images
        )
    )
    random = np.random.default_rng(0)
    held_out = {text: image.item for image in aside for text in image.captions.values()}
    asked = set(held_out)
    recalls, among_test, guard = [_recall(held_out)], [_recall(held_out, "test")], [_guard()]
    done: list[Round] = []
    for number in range(rounds):
        queries: dict[str, str] = {}
        for image in shop[number::2]:  # of each garment another image, with captions of its own
            queries |= {text: image.item for text in image.captions.values() if text not in asked}
        asked |= queries.keys()
        done.append(_round(queries, random, epochs))
        recalls.append(_recall(held_out))
        among_test.append(_recall(held_out, "test"))
        guard.append(_guard())
        print(f"{done[-1]}: R@5 {recalls}, guard {guard}", file=sys.stderr, flush=True)
    return {
        "recall_at_5": recalls, "recall_at_5_test_images": among_test, "guard": guard,
        "images": len(shop) + len(aside), "held_out_queries": len(held_out), "rounds": [asdict(each) for each in done],
    }  # fmt: skip


def _round(queries: dict[str, str], random: np.random.Generator, epochs: int) -> Round:
    """Search and mark, learn, and wait until the live model searches all documents."""
    started, marks = time.monotonic(), 0
    for text, shown in _searched(list(queries), SHOWN):
        for _ in range(PEOPLE):
            chosen, refused = _choice(shown, queries[text], random)
            if chosen or refused:
                finetuner.feedback(text, shown, chosen=chosen, refused=refused)
                marks += 1
    data = finetuner.feedback_data(position_bias=BIAS)
    result = finetuner.improve(
        GUARD,
        data,
        replay_data=REPLAY,
        recipe="keep",
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        guard_tolerance=TOLERANCE,
        device="cpu",
    )
    if result.promoted:
        while (status := finetuner.index_status())["searched"] != result.artifact_id:
            if status["reindex"].get("state") == "FAILED":
                raise SystemExit(f"the index must follow the promotion. Got {status['reindex']}")
            time.sleep(0.2)
    return Round(
        len(queries), marks, data.report["pairs"], data.report["held_out_pairs"], result.before, result.after,
        result.promoted, result.reason, round(time.monotonic() - started, 1),
    )  # fmt: skip


def _choice(shown: Sequence[str], item: str, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return what a person chooses and refuses who means the garment `item`."""
    chosen = []
    for rank, name in enumerate(shown, 1):
        looks, errs = random.random() < rank**-BIAS, random.random()
        meant = _item(name) == item
        if looks and (errs >= MISSED if meant else errs < WRONG):
            chosen.append(name)
    refused = [shown[0]] if not chosen and random.random() < 0.5 else []
    return chosen, refused


def _searched(texts: Sequence[str], limit: int, **asked: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each text and the ids that a search shows, best first."""
    for start in range(0, len(texts), 50):
        for query in finetuner.search(texts[start : start + 50], limit, return_content=False, **asked):
            yield query.text, [match.id for match in query.matches]


def _recall(held_out: dict[str, str], split: str = "") -> float:
    """Return the share of the queries with an image of their garment among the first five."""
    within = {"filter": {"split": split}} if split else {}
    found = [
        any(_item(name) == held_out[text] for name in shown) for text, shown in _searched(list(held_out), 5, **within)
    ]
    return float(np.mean(found))


def _guard() -> float:
    return mean_recall(finetuner.evaluate("live", MEASURED))


def _item(name: str) -> str:
    """Return the garment of an image's name, such as 'item-00042-1'."""
    return name.rpartition("-")[0]


def _pairs(images: Sequence[CatalogueImage]) -> Iterator[Document]:
    return (make_pair(text, image.jpeg) for image in images for text in image.captions.values())


if __name__ == "__main__":
    main()
