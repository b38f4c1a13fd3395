"""The curve of a run: points written while it trains into one file of bounded length, and read for charts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .run_folder import RunFolder

MAX_POINTS = 2000
MAX_EVALUATIONS = 2000


def steps_per_point(step: int) -> int:
    """Return the distance between points, 1, 2, 4, ...: the first that makes at most MAX_POINTS up to `step`."""
    return int(1 << (max(step - 1, 0) // MAX_POINTS).bit_length())


def has_point(step: int, val_loss: float | None) -> bool:
    """Return whether the curve has a point at a step: at regular distances, and wherever a validation loss exists."""
    return val_loss is not None or step % steps_per_point(step) == 0


class CurveFile:
    """Writes the curve of a run. Whenever the distance between points doubles, it drops every other point.

    The file has at most MAX_POINTS lines, and one more for each epoch with a validation loss: those always stay.

    Args:
        folder: of the run; may hold points of an earlier attempt.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._distance = 1

    def add(self, point: Mapping[str, Any]) -> None:
        """Append a point, with its fields as in `Step` of `loop.meter`."""
        self._folder.may_write()
        distance = steps_per_point(point["step"])
        if distance > self._distance:
            self._folder.keep_lines(
                self._folder.curve, lambda line: line["step"] % distance == 0 or line["val_loss"] is not None
            )
        self._distance = distance
        with open(self._folder.curve, "a") as lines:
            lines.write(json.dumps(point) + "\n")


def read_curve(folder: RunFolder, after: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Return {'steps': [...], 'evaluations': [...]}, both sorted by step.

    A step has the fields of `Step` of `loop.meter`. An evaluation is {'step', 'epoch', 'metrics': {name: value}}, all
    metrics of a step in one: the scores before training at step 0, validation losses, results of evaluation callbacks,
    and at the last step the scores of the published weights, under names that have no value there yet. If there are
    more than MAX_EVALUATIONS, every second, third, ... is returned, the last one always.

    Args:
        folder: of the run.
        after: return only steps after this one, and evaluations from this step on, since those of a step follow it.
    """
    found: dict[int, dict[str, Any]] = {}

    def add(step: int, epoch: int, metrics: dict[str, float]) -> None:
        if metrics:
            entry = found.setdefault(step, {"step": step, "epoch": epoch, "metrics": {}})
            entry["metrics"] = metrics | entry["metrics"]

    scores = folder.read("scores") or {}
    add(0, 0, scores.get("before", {}))
    last = {"step": 0, "epoch": 0}
    for line in _lines(folder.evaluations):
        add(line["step"], line["epoch"], line["metrics"])
        last = line
    points = list(_lines(folder.curve))
    for point in points:
        add(point["step"], point["epoch"], {} if point["val_loss"] is None else {"val_loss": point["val_loss"]})
    last = max((last, *points[-1:]), key=lambda line: line["step"])
    add(last["step"], last["epoch"], scores.get("after", {}))
    evaluations = [found[step] for step in sorted(found)]
    distance = -(-len(evaluations) // MAX_EVALUATIONS) or 1
    return {
        "steps": [point for point in points if point["step"] > after],
        "evaluations": [entry for entry in evaluations[::-distance][::-1] if entry["step"] >= after],
    }


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines. The worker may be writing: a last line without its end is left out."""
    if file.exists():
        with open(file) as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))
