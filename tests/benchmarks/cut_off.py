"""What `min_probability=0.5` leaves of a search: precision and recall where something fits, nothing where nothing does.

clip-mini is tuned on the catalogue's train split through a Flow, with the validation split as eval_data, which the
calibration is fitted on. Then half of the items of the test split are indexed, and all captions of the split are
searched for, those of the other half as absent concepts; then the other half. A document is relevant if it shows the
item that the caption describes. Nothing of the test split has a part in the fit.

Prints one JSON object last:

    precision      share of relevant documents among those above the cut, of captions whose item is indexed
    recall         share of their relevant documents above the cut; found: share of these captions with one above it
    empty_absent   share of captions whose item is not indexed that find nothing
    empty_present  share of captions whose item is indexed that find nothing
    curve          [min_probability, precision, recall, empty_absent] of other cuts
    cosine_best    recall of one lowest cosine for all queries, chosen on this very test split with precision >= 0.9 and
                   empty_absent >= 0.95: what a threshold of scores could reach at best
    checked        the run's own figures, of validation captions that the numbers were not fitted with
    tuned_recall   recall at 5 of the tuned model on the validation split
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from docarray import Document, DocumentArray

import finetuner
from finetuner.artifacts.calibrations import load_calibration
from finetuner.catalogue import fashion
from finetuner.catalogue.image import CatalogueImage
from finetuner.flow.running_flow import RunningFlow
from finetuner.models.clip import TEXT, VISION
from finetuner.workspace.folder import Workspace

CUTS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
LIMIT = 100
AT_ONCE = 64


@dataclass(frozen=True)
class Found:
    """The matches of one caption."""

    present: bool
    """Whether its item is indexed."""
    relevant: np.ndarray[Any, Any]
    """(matches,) bool"""
    probability: np.ndarray[Any, Any]
    cosine: np.ndarray[Any, Any]
    wanted: int
    """Number of relevant documents in the index."""


def pairs(split: str, items: int | None) -> DocumentArray:
    """Return the pairs of a split in both languages, labelled by item."""
    return DocumentArray(
        finetuner.make_pair(text, image.jpeg, {"finetuner_label": image.item, "language": language})
        for image in fashion(split, items=items)
        for language, text in image.captions.items()
    )


def search(images: Sequence[CatalogueImage], indexed: set[str], artifact: str) -> list[Found]:
    """Search for every caption, with the items of `indexed` in the index."""
    captions = [(text, image.item) for image in images for text in image.captions.values()]
    found = []
    for start in range(0, len(captions), AT_ONCE):
        some = captions[start : start + AT_ONCE]
        queries = DocumentArray(Document(text=text) for text, _ in some)
        answer = finetuner.search(queries, LIMIT, artifact, return_content=False, min_probability=0.0)
        for (_, item), query in zip(some, answer, strict=True):
            found.append(
                Found(
                    item in indexed,
                    np.array([match.tags["item"] == item for match in query.matches], bool),
                    np.array([match.scores["probability"].value for match in query.matches]),
                    np.array([match.scores["cosine"].value for match in query.matches]),
                    sum(image.item == item for image in images) if item in indexed else 0,
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
    parser.add_argument("--items", type=int, help="items of the train split; all by default")
    parser.add_argument("--validation-items", type=int, default=300)
    parser.add_argument("--test-items", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workspace", type=Path, help="kept; a temporary folder by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RunningFlow(asked.workspace or Path(folder) / "workspace") as flow:
        finetuner.login(host=flow.host)
        run = finetuner.fit(
            "clip-mini",
            pairs("train", asked.items),
            eval_data=pairs("validation", asked.validation_items),
            epochs=asked.epochs,
            recipe="default",
            device="cpu",
            wait=True,
        )
        artifact = run.artifact_id
        calibration = load_calibration(Workspace(flow.workspace), artifact)
        assert calibration is not None, "the run had too few evaluation data"
        images = list(fashion("test", items=asked.test_items))
        items = sorted({image.item for image in images})
        found = []
        for half in (set(items[::2]), set(items[1::2])):
            documents = DocumentArray(
                Document(id=image.name, blob=image.jpeg, tags={"item": image.item})
                for image in images
                if image.item in half
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
            "tuned_recall": run.metrics()["after"]["text_to_image_recall_at_5"],
            "artifact": artifact,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
