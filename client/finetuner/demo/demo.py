"""The main job, once through: start, push, tune, promote, index, search, and a page that shows it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import finetuner

from ..catalogue import fashion
from ..contract.wire import LABEL_TAG, LANGUAGE_TAG
from ..documents.pairs import make_pair
from ..evaluation.pairs import text_to_image
from ..exceptions import InvalidInput
from ..flow.running_flow import RunningFlow
from ..metrics import hit_by_chance
from .report import Example, Thumbnail, write_report

if TYPE_CHECKING:
    from docarray import DocumentArray
    from rich.console import Console

    from ..api.run import Run

MODEL = "clip-mini"
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
    """Says what is going on, and keeps how long each part took."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(highlight=False)
        self.seconds: dict[str, float] = {}
        """By stage, wall clock."""

    @contextmanager
    def __call__(self, name: str, what: str) -> Iterator[None]:
        """Announce and time one part."""
        self.console.print(f"[bold]{what}[/bold]")
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)


def run_demo(out: Path, *, train_items: int | None = None, epochs: int | None = None, stay: bool = False) -> None:
    """Run the demo and write `report.html` and `summary.json`.

    Args:
        out: folder for both; its `workspace` is made anew.
        train_items: garments to train on; the catalogue's own number where None.
        epochs: passes over the images; the recipe's own where None.
        stay: keep the Flow up until Ctrl-C afterwards.

    Raises:
        FinetunerError: whatever goes wrong on the way; no process is left behind.
    """
    workspace = _new_workspace(out)
    stage = Stages()
    with stage("catalogue", "Drawing the catalogue ..."):
        train, test, images = _pairs("train", train_items), _pairs("test", None), _images()
    with ExitStack() as up:
        with stage("start", "Starting the Flow ..."):
            flow = up.enter_context(RunningFlow(workspace))
            finetuner.login(host=flow.host, force=True)
        with stage("push", "Pushing the catalogue ..."):
            finetuner.push_data("fashion-train", train)
            finetuner.push_data("fashion-test", test)
        with stage("fit", "Fine-tuning ..."):
            recipe = RECIPE | ({} if epochs is None else {"epochs": epochs})
            run = finetuner.fit(MODEL, "fashion-train", eval_data="fashion-test", run_name="demo", **recipe)
            run.wait()
        run.display_metrics()
        with stage("promote", f"Promoting {run.artifact_id} ..."):
            finetuner.promote(run.artifact_id)
        with stage("index", f"Indexing {len(images)} test images, before and after ..."):
            finetuner.index(images, artifact=MODEL)
            finetuner.index(images)
        with stage("search", "Searching in English and German ..."):
            examples = _examples(test)
        summary = _summary(run, stage.seconds, train, images)
        (out / "summary.json").write_text(json.dumps(summary, indent=1))
        write_report(out / "report.html", examples, run.metrics(), run.loss_curve(), summary)
        _print_result(stage.console, out, summary)
        if stay:
            _stay(stage.console, flow)


def _new_workspace(out: Path) -> Path:
    workspace = out / "workspace"
    if workspace.exists() and not (workspace / "runs.sqlite").exists() and any(workspace.iterdir()):
        raise InvalidInput(f"--out must be a folder of an earlier demo, or new. Got {out}, which holds other files.")
    shutil.rmtree(workspace, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    return workspace


def _print_result(console: Console, out: Path, summary: dict[str, Any]) -> None:
    console.print(
        f"Before and after: [bold]{out / 'report.html'}[/bold], figures: {out / 'summary.json'}", soft_wrap=True
    )
    for language, figures in summary["languages"].items():
        console.print(
            f"  {language}: text-to-image R@5 {figures['before']:.3f} -> {figures['after']:.3f} "
            f"(chance {summary['chance_recall_at_5']:.3f})"
        )


def _stay(console: Console, flow: RunningFlow) -> None:
    console.print(
        f"The Flow stays up until Ctrl-C: [bold]{flow.http}/[/bold] in a browser, or in another terminal:\n"
        f"  {sys.argv[0]} search 'ein rotes Kleid' --host {flow.host}",
        soft_wrap=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("Stopping ...")


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
    """Search the same captions with both models; the queries are spread over the test split, not chosen."""
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
