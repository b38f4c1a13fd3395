"""Training images, decoded once, with all captions of each, and the passes over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from finetuner.documents.pairs import Pair
from finetuner.exceptions import InvalidInput

from .class_sampler import random_batches
from .decoded_images import SourceImage, decode_images
from .image_cache import ImageCache

if TYPE_CHECKING:
    from finetuner.models.clip import Clip


@dataclass(frozen=True)
class Plan:
    """Which images stand in a batch, each with which of its captions."""

    rows: np.ndarray
    """(batch,) int64, positions of the images, which are their ids, too: no two rows hold the same image."""
    choices: np.ndarray
    """(batch,) int64, positions in each image's captions."""

    @property
    def image_ids(self) -> np.ndarray:
        """(batch,) int64: images of one id are the same image."""
        return self.rows


@dataclass(frozen=True)
class TrainingData:
    """Images with their captions; the same image under several captions is one row."""

    pixels: np.ndarray
    """(images, 3, size, size) uint8, resized and cropped as the model wants it, memory-mapped."""
    captions: Sequence[Sequence[str]]
    """Of each image, at least one."""

    def __len__(self) -> int:
        return len(self.captions)

    def plan(self, rows: np.ndarray, batch_size: int, generator: np.random.Generator | None) -> list[Plan]:
        """Return one pass, all its randomness drawn: every image once, with one of its captions.

        Args:
            rows: (images,) int, the images to take.
            batch_size: images a batch, at most; a rest of one is left out, since it has no negatives.
            generator: order and captions; None is the given order and the first captions.
        """
        choices = np.zeros(len(rows), dtype=np.int64)
        if generator is not None:
            choices = generator.integers([len(self.captions[row]) for row in rows.tolist()])
        return [Plan(rows[taken], choices[taken]) for taken in random_batches(len(rows), batch_size, generator)]

    def fetch(self, plan: Plan) -> tuple[np.ndarray, list[str]]:
        """Return a batch's images, (batch, 3, size, size) uint8, and their captions."""
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


def prepare(pairs: Iterable[Pair], model: Clip, cache: ImageCache, version: str, threads: int) -> TrainingData:
    """Decode every image once, or find what an earlier run decoded.

    Args:
        pairs: several with the same image become one row with several captions; not read where the cache has them.
        model: says how images are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose pairs these all are.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two images can be decoded.
        InvalidDocument: a document is no pair.
    """
    images = (SourceImage(pair.image_id, pair.text, pair.image) for pair in pairs)
    decoded = decode_images(images, model, cache, version, threads)
    if len(decoded.texts) < 2:
        raise InvalidInput(
            f"train_data must hold at least two images that can be decoded. Got {decoded}. Check the images."
        )
    return TrainingData(decoded.pixels, decoded.texts)
