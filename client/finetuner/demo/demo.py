"""Runs the demo: starts a Flow, pushes data, fine-tunes, promotes, indexes, searches, and writes a report page."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import finetuner

from ..catalogue import fashion
from ..catalogue.fashion import MOST_ITEMS
from ..config.run_config import RunConfig
from ..contract.checks import local_path, whole
from ..contract.wire import LABEL_TAG, LANGUAGE_TAG
from ..documents.pairs import make_pair
from ..evaluation.pairs import image_to_text, text_to_image
from ..exceptions import InvalidInput
from ..flow.running_flow import RunningFlow
from ..flow.server_packages import require_server
from ..metrics import hit_by_chance
from ..workspace.folder import ID_FILE
from .report import Example, Thumbnail, write_report

if TYPE_CHECKING:
    from docarray import DocumentArray
    from rich.console import Console

    from ..api.run import Run

MODEL = "clip-mini"
TRAIN, TEST = "fashion-train", "fashion-test"  # datasets
LANGUAGES = ("en", "de")
QUERIES_PER_LANGUAGE = 5
SHOWN = 5
RECIPE: dict[str, Any] = {
    "loss": "CLIPLoss",
    "optimizer": "AdamW",
    "scheduler": "cosine",
    "learning_rate": 5e-4,
    "epochs": 8,
    "batch_size": 128,
    "device": "cuda",
    "seed": 0,
}


class Stages:
    """Prints each stage of the demo and measures its time."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False)
        self.seconds: dict[str, float] = {}
        """Stage -> wall-clock seconds."""

    @contextmanager
    def __call__(self, name: str, message: str) -> Iterator[None]:
        """Print a message and measure the time of one stage."""
        self.console.print(f"[bold]{message}[/bold]")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def run_demo(out: Path, *, train_items: int | None = None, epochs: int | None = None, stay: bool = False) -> None:
    """Run the demo and write `report.html` and `summary.json`.

    Args:
        out: folder for both files. Its subfolder `workspace` is deleted and created anew.
        train_items: garments to train on; None takes all of the catalogue's train split.
        epochs: passes over the images; None takes the recipe's number.
        stay: keep the Flow running afterwards, until Ctrl-C.

    Raises:
        FinetunerError: a stage failed. Every process of the Flow is stopped.
    """
    require_server()
    recipe = RECIPE | ({} if epochs is None else {"epochs": epochs})
    RunConfig(model=MODEL, train_data=TRAIN, **recipe)  # refuses wrong values now, and not after minutes
    if train_items is not None:
        whole("items", train_items, 1, MOST_ITEMS)
    out = local_path("out", out)
    workspace = _new_workspace(out)
    stage = Stages()
    with stage("catalogue", "Drawing the catalogue ..."):
        train, test, images = _pairs("train", train_items), _pairs("test", None), _images()
    with ExitStack() as stack:
        with stage("start", "Starting the Flow ..."):
            flow = stack.enter_context(RunningFlow(workspace))
            finetuner.login(host=flow.host, force=True)
        with stage("push", "Pushing the catalogue ..."):
            finetuner.push_data(TRAIN, train)
            finetuner.push_data(TEST, test)
        with stage("fit", "Fine-tuning ..."):
            run = finetuner.fit(MODEL, TRAIN, eval_data=TEST, run_name="demo", **recipe)
            run.wait()
        _print_recall(stage.console, run.metrics())
        with stage("promote", f"Promoting {run.artifact_id} ..."):
            finetuner.promote(run.artifact_id)
        with stage("index", f"Indexing {len(images)} test images with both models ..."):
            finetuner.index(images, artifact=MODEL)
            finetuner.index(images)
        with stage("search", "Searching in English and German with both models ..."):
            examples = _examples(test)
        summary = _summary(run, stage.seconds, train, images)
        (out / "summary.json").write_text(json.dumps(summary, indent=1))
        write_report(out / "report.html", examples, run.metrics(), run.loss_curve(), summary)
        _print_result(stage.console, out, summary)
        if stay:
            _stay(stage.console, flow)


def _new_workspace(out: Path) -> Path:
    workspace = out / "workspace"
    if (
        workspace.exists()
        and not any((workspace / name).exists() for name in ("runs.sqlite", ID_FILE))
        and any(workspace.iterdir())
    ):
        raise InvalidInput(
            f"--out must be new or the folder of an earlier demo. Got {out}, which holds other files. Choose another."
        )
    shutil.rmtree(workspace, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    return workspace


def _print_recall(console: Console, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print the recall in both directions before and after; the report has every metric."""
    from rich.table import Column, Table

    numbers = (Column(name, justify="right") for name in ("Before", "After", "Change"))
    table = Table("Recall on garments that training has not seen", *numbers)
    for direction, name in (("text to image", text_to_image), ("image to text", image_to_text)):
        for k in (1, 5, 10):
            before, after = (metrics[stage][name(k)] for stage in ("before", "after"))
            table.add_row(f"{direction}, R@{k}", f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
    console.print(table)
    better = sum(value > metrics["before"][name] for name, value in metrics["after"].items())
    console.print(f"{better} of {len(metrics['after'])} metrics are better than before.")


def _print_result(console: Console, out: Path, summary: dict[str, Any]) -> None:
    console.print(f"Report: [bold]{out / 'report.html'}[/bold], metrics: {out / 'summary.json'}", soft_wrap=True)
    for language, recall in summary["languages"].items():
        console.print(
            f"  {language}: text-to-image R@5 {recall['before']:.3f} -> {recall['after']:.3f} "
            f"(by chance {summary['chance_recall_at_5']:.3f})"
        )


def _stay(console: Console, flow: RunningFlow) -> None:
    console.print(
        f"The Flow runs until Ctrl-C. Open [bold]{flow.http}/[/bold] in a browser, or search in another terminal:\n"
        f"  {sys.argv[0]} search 'ein rotes Kleid' --host {flow.host}",
        soft_wrap=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("Stopping the Flow ...")


def _pairs(split: str, items: int | None) -> DocumentArray:
    from docarray import DocumentArray

    return DocumentArray(
        make_pair(caption, image.jpeg, {LABEL_TAG: image.item, LANGUAGE_TAG: language})
        for image in fashion(split, items=items)
        for language, caption in image.captions.items()
    )


def _images() -> DocumentArray:
    from docarray import Document, DocumentArray

    return DocumentArray(
        Document(id=image.name, blob=image.jpeg, tags={LABEL_TAG: image.item}) for image in fashion("test")
    )


def _examples(test: DocumentArray) -> list[Example]:
    """Search with both models for the same captions, taken at regular steps from the test split."""
    examples = []
    for language in LANGUAGES:
        captions = [pair for pair in test if pair.tags[LANGUAGE_TAG] == language]
        for pair in captions[:: max(len(captions) // QUERIES_PER_LANGUAGE, 1)][:QUERIES_PER_LANGUAGE]:
            query, item = pair.chunks[0].text, pair.tags[LABEL_TAG]
            before, after = (
                [
                    Thumbnail(match.blob, match.scores["cosine"].value, match.tags[LABEL_TAG] == item)
                    for match in finetuner.search(query, limit=SHOWN, artifact=artifact)[0].matches
                ]
                for artifact in (MODEL, "live")
            )
            examples.append(Example(query, language, before, after))
    return examples


def _summary(run: Run, seconds: dict[str, float], train: DocumentArray, images: DocumentArray) -> dict[str, Any]:
    metrics = run.metrics()
    labels = [image.tags[LABEL_TAG] for image in images]
    per_item = len(labels) / len(set(labels))
    return {
        "artifact_id": run.artifact_id,
        "model": MODEL,
        "recipe": run.config,
        "train_pairs": len(train),
        "test_images": len(images),
        "chance_recall_at_5": hit_by_chance(len(labels), round(per_item), 5),
        "languages": {
            language: {stage: scores[text_to_image(5, language)] for stage, scores in metrics.items()}
            for language in LANGUAGES
        },
        "metrics": metrics,
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
    }
