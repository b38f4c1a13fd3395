"""Reads the curves of a run from its folder, also while it trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .run_folder import RunFolder

MAX_EVALUATIONS = 2000


def read_history(folder: RunFolder, after: int = 0) -> dict[str, Any]:
    """Return {'steps': [...], 'evaluations': [...]}, both by step.

    A step is {'step', 'epoch', 'loss', 'learning_rate', 'pairs_per_s'}. An evaluation is {'step', 'epoch', 'metrics':
    {name: value}}. Step 0 has the metrics before training, the end of each epoch has val_loss and the metrics of
    evaluation callbacks, and the last step also has those of the published weights.

    Args:
        folder: of the run.
        after: a step. Only later steps are returned, but evaluations from this step on, as they follow their step.
    """
    found: dict[int, dict[str, Any]] = {}

    def add(step: int, epoch: int, metrics: dict[str, float]) -> None:
        if metrics:
            entry = found.setdefault(step, {"step": step, "epoch": epoch, "metrics": {}})
            entry["metrics"] = metrics | entry["metrics"]

    scores = folder.read("scores") or {}
    add(0, 0, scores.get("before", {}))
    for line in _lines(folder.evaluations):
        add(line["step"], line["epoch"], line["metrics"])
    last = {"step": 0, "epoch": 0}
    for last in _lines(folder.metrics):
        add(last["step"], last["epoch"], {} if last["val_loss"] is None else {"val_loss": last["val_loss"]})
    add(last["step"], last["epoch"], scores.get("after", {}))
    evaluations = [found[step] for step in sorted(found)]
    distance = -(-len(evaluations) // MAX_EVALUATIONS) or 1
    return {
        "steps": [line for line in _lines(folder.history) if line["step"] > after],
        "evaluations": [entry for entry in evaluations[::-distance][::-1] if entry["step"] >= after],
    }


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file; skip a last line that the worker has not finished."""
    if file.exists():
        with open(file) as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))
