"""The folder of one run: how the executor tells the worker what to do, and how the worker tells how it goes.

request.json       what to do; written before the worker starts
process.json       the worker's pid, to find it again after the executor was restarted
log.txt            lines for people
metrics.jsonl      one JSON object a line: {"step", "epoch", "loss", "learning_rate", "pairs_per_second", ...}
evaluations.jsonl  one JSON object for each evaluation while training: {"step", "epoch", "metrics"}
scores.json        {"before": {...}, "after": {...}}
examples.json      {"before": {query: [match, ...]}, "after": {...}}
checkpoints/       models of the last epochs, where a callback asks for them
outcome.json       {"status", "details"}; its presence means that the run has ended
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuner.workspace import write_atomically


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run."""

    path: Path
    """<workspace>/runs/<artifact id>"""

    @property
    def log(self) -> Path:
        """Lines for people."""
        return self.path / "log.txt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON object a line."""
        return self.path / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        """A folder for each epoch that is kept."""
        return self.path / "checkpoints"

    def write(self, name: str, value: Any) -> None:
        """Write one of the JSON files above, all or nothing."""
        write_atomically(self.path / f"{name}.json", json.dumps(value).encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one of the JSON files above, None where it is not there yet."""
        try:
            return dict(json.loads((self.path / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def start_over(self) -> None:
        """Remove everything that an earlier attempt at the run left, except its log."""
        self.forget("outcome", "process", "scores", "examples")
        self.metrics.unlink(missing_ok=True)
        self.evaluations.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def forget(self, *names: str) -> None:
        """Remove some of the JSON files above."""
        for name in names:
            (self.path / f"{name}.json").unlink(missing_ok=True)
