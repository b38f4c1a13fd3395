"""Training pictures, decoded once, with all captions of each, and the passes over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from finetuner.documents.pairs import Pair
from finetuner.exceptions import InvalidInput

from .class_sampler import random_batches
from .decoded_pictures import Picture, decode_pictures
from .picture_cache import PictureCache

if TYPE_CHECKING:
    from finetuner.models.clip import Clip


@dataclass(frozen=True)
class Plan:
    """Which pictures stand in a batch, each with which of its captions."""

    rows: np.ndarray
    """(batch,) int64, positions of the pictures, which are their ids, too: no two rows hold the same picture."""
    choices: np.ndarray
    """(batch,) int64, positions in each picture's captions."""

    @property
    def picture_ids(self) -> np.ndarray:
        """(batch,) int64: pictures of one id are the same picture."""
        return self.rows


@dataclass(frozen=True)
class TrainingData:
    """Pictures with their captions; the same picture under several captions is one row."""

    pixels: np.ndarray
    """(pictures, 3, size, size) uint8, resized and cropped as the model wants it, memory-mapped."""
    captions: Sequence[Sequence[str]]
    """Of each picture, at least one."""

    def __len__(self) -> int:
        return len(self.captions)

    def plan(self, rows: np.ndarray, batch_size: int, generator: np.random.Generator | None) -> list[Plan]:
        """Return one pass, all its randomness drawn: every picture once, with one of its captions.

        Args:
            rows: (pictures,) int, the pictures to take.
            batch_size: pictures a batch, at most; a rest of one is left out, since it has no negatives.
            generator: order and captions; None is the given order and the first captions.
        """
        choices = np.zeros(len(rows), dtype=np.int64)
        if generator is not None:
            choices = generator.integers([len(self.captions[row]) for row in rows.tolist()])
        return [Plan(rows[taken], choices[taken]) for taken in random_batches(len(rows), batch_size, generator)]

    def fetch(self, plan: Plan) -> tuple[np.ndarray, list[str]]:
        """Return a batch's pictures, (batch, 3, size, size) uint8, and their captions."""
        return self.pixels[plan.rows], self._captions(plan)

    def caption_ids(self, plan: Plan) -> np.ndarray:
        """Return (batch,) int64: captions that are the same but for white space around them have one number."""
        return np.array([self._numbers[caption.strip()] for caption in self._captions(plan)], dtype=np.int64)

    def _captions(self, plan: Plan) -> list[str]:
        chosen = zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)
        return [self.captions[row][choice] for row, choice in chosen]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for captions in self.captions:
            for caption in captions:
                numbers.setdefault(caption.strip(), len(numbers))
        return numbers


def prepare(pairs: Iterable[Pair], model: Clip, cache: PictureCache, version: str, threads: int) -> TrainingData:
    """Decode every picture once, or find what an earlier run decoded.

    Args:
        pairs: several with the same picture become one row with several captions; not read where the cache has them.
        model: says how pictures are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose pairs these all are.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two pictures can be decoded.
        InvalidDocument: a document is no pair.
    """
    pictures = (Picture(pair.image_id, pair.text, pair.image) for pair in pairs)
    decoded = decode_pictures(pictures, model, cache, version, threads)
    if len(decoded.texts) < 2:
        raise InvalidInput(
            f"train_data must hold at least two pictures that can be decoded. Got {decoded}. Check the pictures."
        )
    return TrainingData(decoded.pixels, decoded.texts)
