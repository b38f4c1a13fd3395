"""Groups of near duplicates: images and captions that the initial model takes for nearly the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast

from finetuner.config.near_duplicates import NearDuplicates
from finetuner.exceptions import InvalidInput

from .training_data import Plan, TrainingData

if TYPE_CHECKING:
    from finetuner.models.clip import Clip

AT_ONCE = 256
"""Vectors that are embedded, and compared with the leaders of groups, at once."""

log = logging.getLogger("finetuner")


def leaders(vectors: torch.Tensor, cosine: float) -> np.ndarray:
    """Return the leader of each vector's group, (count,) int64 positions.

    The first vector leads a group. Each further one joins the most similar leader before it, if their cosine is at
    least `cosine`, and leads a group else. So no chain joins vectors that differ. O(count * groups) time.

    Args:
        vectors: (count, dim) float32, L2-normalised.
        cosine: least one of a leader and its group.
    """
    leading = torch.empty(0, dtype=torch.int64, device=vectors.device)
    found = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), AT_ONCE):
        chunk = vectors[start : start + AT_ONCE]
        best, at = torch.full((len(chunk),), -torch.inf), torch.zeros(len(chunk), dtype=torch.int64)
        if len(leading):
            best, places = (chunk @ vectors[leading].T).max(dim=1)
            best, at = best.cpu(), leading[places].cpu()
        within = (chunk @ chunk.T).cpu()
        new: list[int] = []
        for row in range(len(chunk)):
            nearest, of = float(best[row]), int(at[row])
            if new:
                value, place = within[row, new].max(dim=0)
                if float(value) > nearest:
                    nearest, of = float(value), start + new[int(place)]
            if nearest < cosine:
                of = start + row
                new.append(row)
            found[start + row] = of
        leading = torch.cat([leading, torch.tensor(new, dtype=torch.int64, device=vectors.device) + start])
    return found


class NearGroups:
    """The groups of a run's training data, found once with the weights before the first step.

    Args:
        model: embeds images and captions.
        data: training data.
        rows: (images,) int64, the images to compare.
        options: of the run.
    """

    def __init__(self, model: Clip, data: TrainingData, rows: np.ndarray, options: NearDuplicates) -> None:
        self._model = model
        self._data = data
        self._rows = rows
        self._options = options
        self._images, self._texts = np.arange(len(data)), np.arange(len(data.texts))  # until `prepare` each is alone
        self._known = False

    @property
    def soft(self) -> float:
        """How much of a positive a near duplicate is; 0 masks it."""
        return self._options.soft

    def prepare(self) -> None:
        """Find the groups, once. Every process must call it; all get those of the first one.

        Raises:
            InvalidInput: all images are near duplicates of one, or all captions are.
        """
        if self._known:
            return
        self._known = True
        started, told = time.perf_counter(), []
        self._model.network.eval()
        if self._options.images is not None:
            self._images[self._rows] = self._rows[self._groups(self._image_vectors(), self._options.images, "images")]
            told.append(_count("images", self._images[self._rows], self._options.images))
        if self._options.captions is not None:
            self._texts = self._groups(
                self._model.encode_texts(self._data.texts, AT_ONCE), self._options.captions, "captions"
            )
            told.append(_count("captions", self._texts, self._options.captions))
        treated = f"each counts {self.soft:g} of a positive" if self.soft else "masked"
        log.info(
            "Near duplicates, by the initial model: %s; %s; %.1f s",
            ", ".join(told),
            treated,
            time.perf_counter() - started,
        )

    def image_ids(self, plan: Plan) -> np.ndarray:
        """Return (batch,) int64, equal for near duplicate images."""
        ids: np.ndarray = self._images[plan.rows]
        return ids

    def caption_ids(self, plan: Plan) -> np.ndarray:
        """Return (batch,) int64, equal for near duplicate captions."""
        ids: np.ndarray = self._texts[self._data.caption_ids(plan)]
        return ids

    def of_texts(self, ids: np.ndarray) -> np.ndarray:
        """Return caption ids of any shape as ids of groups; -1 stays."""
        return np.where(ids < 0, -1, self._texts[ids])

    def state(self) -> dict[str, Any]:
        """Return the groups, for a checkpoint: later weights would give others."""
        return {"known": self._known, "images": torch.from_numpy(self._images), "texts": torch.from_numpy(self._texts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._known = bool(state["known"])
        self._images, self._texts = state["images"].numpy(), state["texts"].numpy()

    def _image_vectors(self) -> np.ndarray:
        parts = np.array_split(self._rows, -(-len(self._rows) // AT_ONCE))
        pixels = (torch.from_numpy(np.ascontiguousarray(self._data.pixels[rows])) for rows in parts)
        return np.concatenate([self._model.encode_pixels(list(each)) for each in pixels])

    def _groups(self, vectors: np.ndarray, cosine: float, name: str) -> np.ndarray:
        found = leaders(torch.from_numpy(vectors).to(self._model.device), cosine)
        of_first: torch.Tensor = broadcast(torch.from_numpy(found).to(self._model.device))
        groups = of_first.cpu().numpy()
        if len(groups) > 1 and not groups.any():
            raise InvalidInput(
                f"near_duplicates must leave {name} that differ. Got {name}={cosine:g}, and all {len(groups)} are near "
                f"duplicates of the first. Raise it, or set it to None."
            )
        return groups


def _count(name: str, groups: np.ndarray, cosine: float) -> str:
    """Return the number of items that have a near duplicate, of their groups, and the threshold."""
    _, sizes = np.unique(groups, return_counts=True)
    several = sizes[sizes > 1]
    return f"{several.sum()} of {len(groups)} {name} in {len(several)} groups (cosine >= {cosine:g})"
