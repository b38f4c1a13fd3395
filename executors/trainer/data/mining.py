"""Finds the captions of other images that a model confuses with an image's own, and leaves out those likely to be true.

Positive-aware mining of NV-Retriever (Moreira et al., arXiv:2407.15831).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast

from finetuner.config.hard_negatives import HardNegatives
from finetuner.exceptions import InvalidInput

from .negatives import filled
from .training_data import TrainingData

if TYPE_CHECKING:
    from finetuner.models.clip import Clip

MOST_CAPTIONS = 100_000
"""Of more captions, a random part of this size is searched."""
IMAGES_AT_ONCE = 256

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Mined:
    """Captions for each of several images."""

    captions: np.ndarray
    """(images, per_image) int64 columns, the most similar first; -1 where there are fewer."""
    rejected: int
    """Number of candidates that are too similar: likely true captions."""


def mine(cosines: torch.Tensor, own: Sequence[float], forbidden: np.ndarray, options: HardNegatives) -> Mined:
    """Return the captions that the options choose.

    Args:
        cosines: (images, captions) float32. Changed.
        own: (images,) cosine of each image and its own caption.
        forbidden: (images, captions) bool, captions of the image itself or of its label. They have no rank.
        options: of the mining.
    """
    cosines[torch.from_numpy(forbidden).to(cosines.device)] = -torch.inf
    first, last = options.range
    values, columns = (each.cpu().numpy()[:, first:] for each in cosines.topk(min(last, cosines.shape[1]), dim=1))
    positive = np.asarray(own)
    most = (positive - np.abs(positive) * (1 - options.relative_margin))[:, None]
    fits = (values <= most) & (values > -np.inf)
    chosen = [row[fit][: options.per_image].tolist() for row, fit in zip(columns, fits, strict=True)]
    return Mined(filled(chosen, options.per_image), int((values > most).sum()))


class Miner:
    """Mines a run's training data with the weights at the start of an epoch, before the first and every few.

    Args:
        model: embeds images and captions.
        data: training data.
        rows: (images,) int64, the images to use, and their captions.
        options: of the mining.
        seed: of the run.

    Raises:
        InvalidInput: fewer than 2 * per_image + 2 images.
    """

    def __init__(self, model: Clip, data: TrainingData, rows: np.ndarray, options: HardNegatives, seed: int) -> None:
        least = 2 * options.per_image + 2
        if len(rows) < least:
            raise InvalidInput(
                f"train_data must hold at least {least} images for hard_negatives with per_image={options.per_image}. "
                f"Got {len(rows)}. Lower per_image, or leave hard_negatives out."
            )
        self._model = model
        self._data = data
        self._rows = rows
        self._options = options
        self._seed = seed
        self._epoch = 0
        # Until the first mining each image has its own caption, which no loss counts: batches have their size.
        self._found = np.zeros((len(data), options.per_image), dtype=np.int64)
        self._found[rows] = [[data.own_ids(row)[0]] for row in rows.tolist()]

    def prepare(self, epoch: int) -> None:
        """Mine if the epoch, from 1, asks for it. Every process must call it; all get what the first one found."""
        if (epoch - 1) % self._options.every == 0 and epoch != self._epoch:
            self._epoch = epoch
            self._mine(epoch)

    def of_row(self, row: int) -> list[int]:
        """Return the ids of the captions mined for an image."""
        return [number for number in self._found[row].tolist() if number >= 0]

    def state(self) -> dict[str, Any]:
        """Return what was mined last, for a checkpoint: later weights would give other captions."""
        return {"epoch": self._epoch, "found": torch.from_numpy(self._found)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._epoch, self._found = int(state["epoch"]), state["found"].numpy()

    def _mine(self, epoch: int) -> None:
        started = time.perf_counter()
        self._model.network.eval()
        own = {row: self._data.own_ids(row) for row in self._rows.tolist()}
        pool = np.array(sorted({number for numbers in own.values() for number in numbers}))
        if len(pool) > MOST_CAPTIONS:
            generator = np.random.default_rng([self._seed, 3, epoch])
            pool = np.sort(generator.choice(pool, MOST_CAPTIONS, replace=False))
        texts = torch.from_numpy(self._encoded(pool)).to(self._model.device)
        of_label = self._captions_of_labels(pool)
        found, rejected = self._found.copy(), 0
        for start in range(0, len(self._rows), IMAGES_AT_ONCE):
            rows = self._rows[start : start + IMAGES_AT_ONCE]
            pixels = torch.from_numpy(np.ascontiguousarray(self._data.pixels[rows]))
            images = self._model.encode_pixels(list(pixels))
            numbers = [own[row] for row in rows.tolist()]
            vectors = self._encoded(np.concatenate([np.array(each) for each in numbers]))
            ends = np.cumsum([len(each) for each in numbers])[:-1]
            positive = [
                float((part @ image).min()) for part, image in zip(np.split(vectors, ends), images, strict=True)
            ]
            forbidden = np.zeros((len(rows), len(pool)), dtype=bool)
            for at, row in enumerate(rows.tolist()):
                forbidden[at, _positions(pool, numbers[at])] = True
                for label in {*self._data.labels[row]} - {""} if self._data.labels else ():
                    forbidden[at, of_label[label]] = True
            cosines = torch.from_numpy(images).to(texts.device) @ texts.T
            mined = mine(cosines, positive, forbidden, self._options)
            found[rows] = np.where(mined.captions >= 0, pool[mined.captions], -1)
            rejected += mined.rejected
        kept = found[self._rows]
        log.info(
            "Hard negatives before epoch %d: kept %d captions for %d of %d images, left out %d more similar ones as "
            "likely true; %.1f s",
            epoch,
            (kept >= 0).sum(),
            (kept >= 0).any(1).sum(),
            len(kept),
            rejected,
            time.perf_counter() - started,
        )
        of_first: torch.Tensor = broadcast(torch.from_numpy(found).to(self._model.device))
        self._found = of_first.cpu().numpy()

    def _encoded(self, numbers: np.ndarray) -> np.ndarray:
        return self._model.encode_texts([self._data.texts[number] for number in numbers.tolist()])

    def _captions_of_labels(self, pool: np.ndarray) -> dict[str, np.ndarray]:
        """Return label -> positions in the pool of the captions that an image has with that label."""
        numbers: dict[str, set[int]] = {}
        for row in self._rows.tolist() if self._data.labels else ():
            for number, label in zip(self._data.own_ids(row), self._data.labels[row], strict=True):
                numbers.setdefault(label, set()).add(number)
        return {label: _positions(pool, sorted(each)) for label, each in numbers.items()}


def _positions(pool: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Return the positions of those numbers that are in the pool, which is sorted."""
    found = np.searchsorted(pool, numbers)
    found = found[found < len(pool)]
    return found[np.isin(pool[found], numbers)]
