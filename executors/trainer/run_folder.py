"""The folder of one run, which trainer and worker share.

request.json       the request, see `run_messages`; written before the worker starts
process.json       the worker's pid and its devices, to find it again after the trainer was restarted
attempts.json      number of times that trainer and worker were killed together
log.txt            the log, for people
curve.jsonl        one JSON object for each point of the curve, a few thousand at most: {"step", "epoch", "loss", ...}
evaluations.jsonl  one JSON object for each evaluation during training: {"step", "epoch", "metrics"}
resolved.json      the training options in force, see `Learner.resolved`; written before the first step
scores.json        {"before": {...}, "after": {...}}
examples.json      {"before": {query: [match, ...]}, "after": {...}}
checkpoints/       models of the last epochs, with TrainingCheckpoint; tuned/, after a sweep of WiSE-FT's alphas
wise_ft.json       {"metric", "alpha", "curve": [[alpha, score], ...]}, after such a sweep; with a guard also
                   "guard_curve" and "guard_area", see `hooks.wise_ft.reached_area`
calibration.json   similarities to probabilities, for the artifact; with enough evaluation data
trackers.json      {logger: the tracker's id of the run}, to resume it there
wandb/, mlruns/, tensorboard/  files of trackers, with their callbacks
checkpoint.pt      the state to resume from; written from the first epoch's end on, removed after the last one's
paused.json        the worker ended without a result and without a fault: nobody renewed the run's lease
outcome.json       {"status", "details"}; its presence means that the run has ended
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetuner.workspace.folder import set_aside, write_atomically

RESOLVED = "resolved"
LOG_BYTES = 256 * 1024  # of a log in one answer


def always() -> None:
    """Let every write pass: the run's lease is the lock of its workspace."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run."""

    path: Path
    """<workspace>/runs/<artifact id>"""
    may_write: Callable[[], None] = field(default=always, repr=False, compare=False)
    """Ends the process if it has lost the run, see `leases`; called before each file that others read."""

    @property
    def log(self) -> Path:
        """The log, for people."""
        return self.path / "log.txt"

    @property
    def curve(self) -> Path:
        """One JSON object a line."""
        return self.path / "curve.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON object a line."""
        return self.path / "evaluations.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint.pt"

    @property
    def checkpoints(self) -> Path:
        """One folder for each kept epoch."""
        return self.path / "checkpoints"

    def write(self, name: str, value: Any) -> None:
        """Write one of the JSON files above as a whole."""
        self.may_write()
        write_atomically(self.path / f"{name}.json", json.dumps(value).encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one of the JSON files above, None if it does not exist.

        Raises:
            ValueError, TypeError: the file is damaged.
        """
        try:
            return dict(json.loads((self.path / f"{name}.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_log(self, offset: int, *, ended: bool) -> bytes:
        """Return the log from a byte offset on: at most LOG_BYTES, and whole lines unless the run has ended."""
        try:
            with open(self.log, "rb") as log:
                log.seek(offset)
                content = log.read(LOG_BYTES)
        except FileNotFoundError:
            return b""
        full, whole_lines = len(content) == LOG_BYTES, content[: content.rfind(b"\n") + 1]
        if (full and whole_lines) or (not full and not ended):  # a line longer than LOG_BYTES is cut
            return whole_lines
        return content

    def set_aside(self, name: str) -> None:
        """Rename a damaged file, so it counts as missing."""
        set_aside(self.path / f"{name}.json")

    def start_over(self) -> None:
        """Remove all files of an earlier attempt at the run, except the log."""
        self.forget(
            "outcome", "process", "paused", RESOLVED, "scores", "examples", "trackers", "wise_ft", "calibration"
        )
        for file in (self.curve, self.evaluations, self.checkpoint):
            file.unlink(missing_ok=True)
        for name in (self.checkpoints.name, "wandb", "mlruns", "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def go_back(self, step: int) -> None:
        """Remove the lines written after a step: the run resumes there and writes them again."""
        for file in (self.curve, self.evaluations):
            self.keep_lines(file, lambda line: line["step"] <= step)

    def keep_lines(self, file: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Remove the unwanted lines of a JSON-lines file, and a last line that was cut off."""
        if file.exists():
            lines = file.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and wanted(json.loads(line))]
            write_atomically(file, "".join(kept).encode())

    def take_scores(self, other: RunFolder) -> None:
        """Copy the scores and examples of another folder."""
        for name in ("scores.json", "examples.json"):
            if (other.path / name).exists():
                shutil.copyfile(other.path / name, self.path / name)

    def take_over(self, other: RunFolder) -> None:
        """Copy the files that a run resumes from."""
        self.take_scores(other)
        for source, target in (
            (other.curve, self.curve),
            (other.evaluations, self.evaluations),
            (other.checkpoint, self.checkpoint),  # comes last: without it, the other files are ignored
        ):
            if source.exists():
                shutil.copyfile(source, target)

    def forget(self, *names: str) -> None:
        """Remove some of the JSON files above."""
        for name in names:
            (self.path / f"{name}.json").unlink(missing_ok=True)
