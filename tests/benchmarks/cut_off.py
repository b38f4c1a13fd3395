"""What `min_probability=0.5` leaves of a search: precision and recall where something fits, nothing where nothing does.

clip-mini is tuned on the catalogue's train split through a Flow, with the validation split as eval_data, which the
calibration is fitted on. Then half of the test split is indexed, and everything in it is searched for, what the other
half shows as absent concepts; then the other half. Nothing of the test split has a part in the fit.

--queries concepts: short texts such as "a red dress"; every garment of that kind and colour is relevant, and the halves
share no concept. --queries captions: whole captions in two languages; the own item of a caption alone is relevant,
though others fit it as well, so that nothing can be sure.

Prints one JSON object last:

    precision      share of relevant documents among those above the cut, of queries that something fits
    recall         share of their relevant documents above the cut; found: share of these queries with one above it
    empty_absent   share of queries that nothing fits that find nothing
    empty_present  share of queries that something fits that find nothing
    curve          [min_probability, precision, recall, empty_absent] of other cuts
    cosine_best    recall of one lowest cosine for all queries, chosen on this very test split with precision >= 0.9 and
                   empty_absent >= 0.95: what a threshold of scores could reach at best
    checked        the run's own figures, of validation queries that the numbers were not fitted with
    calibrated     whether the run's scores were apart enough for a calibration; without, the others are missing
    tuned_recall   recall at 5 of the tuned model on the validation split
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document, DocumentArray

import finetuner
from finetuner.artifacts.calibrations import load_calibration
from finetuner.catalogue import fashion
from finetuner.catalogue.designs import designs, split_of
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.clip import TEXT, VISION
from finetuner.workspace.folder import Workspace

CUTS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
LIMIT = 200
TEMPLATES = ("a {}", "{}", "a photo of a {}")
AT_ONCE = 64


@dataclass(frozen=True)
class Shown:
    """An image, the key of what is relevant to the same queries, and its queries."""

    name: str
    jpeg: bytes
    key: str
    texts: Mapping[str, str]
    """By language."""


@dataclass(frozen=True)
class Found:
    """The matches of one query."""

    present: bool
    """Whether something in the index fits."""
    relevant: np.ndarray[Any, Any]
    """(matches,) bool"""
    probability: np.ndarray[Any, Any]
    cosine: np.ndarray[Any, Any]
    wanted: int
    """Number of relevant documents in the index."""


def images_of(split: str, items: int, queries: str) -> list[Shown]:
    """Return the images of a split."""
    if queries == "captions":
        return [Shown(each.name, each.jpeg, each.item, each.captions) for each in fashion(split, items=items)]
    own = islice((pair for pair in designs(0) if split_of(pair[1]) == split), items)
    concepts = {item: f"{design.colour} {design.garment}" for item, design in own}
    found = []
    for number, each in enumerate(fashion(split, items=items)):
        concept = concepts[each.item]
        template = TEMPLATES[number % len(TEMPLATES)]
        found.append(Shown(each.name, each.jpeg, concept, {"en": template.format(concept)}))
    return found


def pairs(images: Sequence[Shown]) -> DocumentArray:
    """Return images with their texts as pairs, labelled by key."""
    return DocumentArray(
        finetuner.make_pair(text, image.jpeg, {"finetuner_label": image.key, "language": language})
        for image in images
        for language, text in image.texts.items()
    )


def search(images: Sequence[Shown], indexed: set[str], artifact: str) -> list[Found]:
    """Search for every text once, with the keys of `indexed` in the index."""
    queries = list(dict.fromkeys((text, image.key) for image in images for text in image.texts.values()))
    wanted = Counter(image.key for image in images if image.key in indexed)
    found = []
    for start in range(0, len(queries), AT_ONCE):
        some = queries[start : start + AT_ONCE]
        sent = DocumentArray(Document(text=text) for text, _ in some)
        answer = finetuner.search(sent, LIMIT, artifact, return_content=False, min_probability=0.0)
        for (_, key), query in zip(some, answer, strict=True):
            found.append(
                Found(
                    key in indexed,
                    np.array([match.tags["key"] == key for match in query.matches], bool),
                    np.array([match.scores["probability"].value for match in query.matches]),
                    np.array([match.scores["cosine"].value for match in query.matches]),
                    wanted[key],
                )
            )
    return found


def figures(found: Sequence[Found], cut: float, by: str = "probability") -> dict[str, float]:
    """Return the figures of one cut."""
    kept = [getattr(each, by) >= cut for each in found]
    right = sum(int((mask & each.relevant).sum()) for mask, each in zip(kept, found, strict=True))
    shown = sum(int(mask.sum()) for mask, each in zip(kept, found, strict=True) if each.present)
    absent = [not mask.any() for mask, each in zip(kept, found, strict=True) if not each.present]
    present = [mask for mask, each in zip(kept, found, strict=True) if each.present]
    hits = [bool((mask & each.relevant).any()) for mask, each in zip(kept, found, strict=True) if each.present]
    return {
        "precision": right / shown if shown else 0.0,
        "recall": right / sum(each.wanted for each in found),
        "found": float(np.mean(hits)),
        "empty_absent": float(np.mean(absent)),
        "empty_present": float(np.mean([not mask.any() for mask in present])),
    }


def main() -> None:
    """Tune, index, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", choices=("concepts", "captions"), default="concepts")
    parser.add_argument("--items", type=int, default=1500, help="items of the train split")
    parser.add_argument("--validation-items", type=int, default=300)
    parser.add_argument("--test-items", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workspace", type=Path, help="kept; a temporary folder by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningFlow(asked.workspace or Path(folder) / "workspace") as flow:
        finetuner.login(host=flow.host)
        run = finetuner.fit(
            "clip-mini",
            pairs(images_of("train", asked.items, asked.queries)),
            eval_data=pairs(images_of("validation", asked.validation_items, asked.queries)),
            epochs=asked.epochs,
            recipe="default",
            device="cpu",
            wait=True,
        )
        artifact = run.artifact_id
        calibration = load_calibration(Workspace(flow.workspace), artifact)
        tuned = run.metrics()["after"]["text_to_image_recall_at_5"]
        if calibration is None or (TEXT, VISION) not in calibration.directions:
            print(json.dumps({"calibrated": False, "tuned_recall": tuned, "artifact": artifact}))
            return
        images = images_of("test", asked.test_items, asked.queries)
        keys = sorted({image.key for image in images})
        found = []
        for half in (set(keys[::2]), set(keys[1::2])):
            documents = DocumentArray(
                Document(id=image.name, blob=image.jpeg, tags={"key": image.key})
                for image in images
                if image.key in half
            )
            finetuner.index(documents, artifact=artifact)
            found += search(images, half, artifact)
            finetuner.delete_documents([image.name for image in images])
        cuts = {cut: figures(found, cut) for cut in CUTS}
        by_cosine = [figures(found, cut, "cosine") for cut in np.linspace(0, 1, 201)]
        good = [each["recall"] for each in by_cosine if each["precision"] >= 0.9 and each["empty_absent"] >= 0.95]
        result = cuts[0.5] | {
            "curve": [[cut, each["precision"], each["recall"], each["empty_absent"]] for cut, each in cuts.items()],
            "cosine_best": max(good, default=0.0),
            "checked": dict(calibration.directions[TEXT, VISION].checked),
            "calibrated": True,
            "tuned_recall": tuned,
            "artifact": artifact,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
