"""A hook that keeps a run's curve: loss and learning rate step by step, in a file that stays small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..run_folder import RunFolder
from .hook import Hook, Progress

MAX_POINTS = 2000


class RecordHistory(Hook):
    """Appends a point to the run's history after each step; of a long run after every 2nd, 4th, 8th, ...

    A point is {"step", "epoch", "loss": mean of the steps since the last point, "learning_rate", "pairs_per_s": of the
    last report, not there before the first}.

    Args:
        folder: of the run; its history never has more than MAX_POINTS lines.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._losses: list[float] = []

    def after_step(self, progress: Progress) -> None:
        """Write the point that is due; where points have become too many, drop every other one before."""
        values, every = progress.values, steps_per_point(progress.step)
        self._losses.append(values["loss"])
        if every > steps_per_point(progress.step - 1):
            self._folder.keep_lines(self._folder.history, lambda step: step % every == 0)
        if progress.step % every:
            return
        point = {
            "step": progress.step,
            "epoch": progress.epoch,
            "loss": sum(self._losses) / len(self._losses),
            "learning_rate": values["learning_rate"],
        }
        if "pairs_per_second" in values:
            point["pairs_per_s"] = values["pairs_per_second"]
        with open(self._folder.history, "a") as lines:
            lines.write(json.dumps(point) + "\n")
        self._losses = []

    def state(self) -> dict[str, Any]:
        """Return the losses since the last point."""
        return {"losses": self._losses}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._losses = list(state["losses"])


def steps_per_point(step: int) -> int:
    """Return 1, 2, 4, ...: the distance in steps with which `step` of them make at most MAX_POINTS points."""
    return int(1 << (max(step - 1, 0) // MAX_POINTS).bit_length())
