"""Prepares training images with all their captions and draws the batches of each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from finetuner.documents.pairs import Pair
from finetuner.documents.scores import pair_has_score, scored_alike
from finetuner.documents.tags import check_negatives
from finetuner.exceptions import InvalidDocument, InvalidInput

from .class_sampler import random_batches
from .decoded_images import SourceImage, decode_images
from .image_cache import ImageCache

if TYPE_CHECKING:
    from finetuner.models.clip import Clip


@dataclass(frozen=True)
class Plan:
    """Images of one batch, with one caption of each."""

    rows: np.ndarray
    """(batch,) int64, positions of the images. They serve as ids too: no two rows hold the same image."""
    choices: np.ndarray
    """(batch,) int64, positions in each image's captions."""

    @property
    def image_ids(self) -> np.ndarray:
        """(batch,) int64, equal for equal images."""
        return self.rows


@dataclass(frozen=True)
class TrainingData:
    """Images with their captions. An image with several captions is one row."""

    pixels: np.ndarray
    """(images, 3, size, size) uint8, resized and cropped for the model, memory-mapped."""
    captions: Sequence[Sequence[str]]
    """Captions of each image, at least one."""
    labels: Sequence[Sequence[str]] = ()
    """Label of each caption; '' for none. Empty if no caption has one."""
    negatives: Sequence[Sequence[Sequence[str]]] = ()
    """Captions that do not fit the image, beside each caption. Empty if there are none."""
    scores: Sequence[Sequence[float]] | None = None
    """Score of each caption, finite and at least 0; None: the pairs have no scores."""

    def __len__(self) -> int:
        return len(self.captions)

    def plan(self, rows: np.ndarray, batch_size: int, generator: np.random.Generator | None) -> list[Plan]:
        """Draw one epoch: every image once, with one of its captions.

        Args:
            rows: (images,) int, the images to use.
            batch_size: most images in a batch. A last batch of one image has no negatives and is left out.
            generator: draws order and captions. None keeps the order and takes the first captions.
        """
        choices = np.zeros(len(rows), dtype=np.int64)
        if generator is not None:
            choices = generator.integers([len(self.captions[row]) for row in rows.tolist()])
        return [Plan(rows[taken], choices[taken]) for taken in random_batches(len(rows), batch_size, generator)]

    def fetch(self, plan: Plan) -> tuple[np.ndarray, list[str]]:
        """Return a batch's images, (batch, 3, size, size) uint8, and their captions."""
        return self.pixels[plan.rows], self.captions_of(plan)

    def with_next_captions(self, plan: Plan, by: int) -> Plan:
        """Return the same images, each with the caption that is `by` places further; after the last comes the first."""
        counts = np.array([len(self.captions[row]) for row in plan.rows.tolist()])
        return Plan(plan.rows, (plan.choices + by) % counts)

    def caption_ids(self, plan: Plan) -> np.ndarray:
        """Return (batch,) int64, equal for captions that differ at most in white space around them."""
        return np.array([self._numbers[caption.strip()] for caption in self.captions_of(plan)], dtype=np.int64)

    def scores_of(self, plan: Plan) -> np.ndarray:
        """Return the scores of a batch's pairs, (batch,) float64. The data must have scores."""
        assert self.scores is not None
        chosen = zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)
        return np.array([self.scores[row][choice] for row, choice in chosen], dtype=np.float64)

    def label_ids(self, plan: Plan) -> np.ndarray:
        """Return (batch,) int64, equal for captions with the same label; -1 for those without."""
        if not self.labels:
            return np.full(len(plan.rows), -1, dtype=np.int64)
        chosen = zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)
        return np.array([self._label_numbers.get(self.labels[row][at], -1) for row, at in chosen], dtype=np.int64)

    @property
    def label_count(self) -> int:
        """Number of different labels."""
        return len(self._label_numbers)

    def of_one_label(self) -> bool:
        """Return whether all captions have the same label, so that no pair is a negative of another."""
        return self.label_count == 1 and all(map(all, self.labels))

    def captions_of(self, plan: Plan) -> list[str]:
        """Return the captions of a batch."""
        chosen = zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)
        return [self.captions[row][choice] for row, choice in chosen]

    @cached_property
    def _label_numbers(self) -> dict[str, int]:
        labels = dict.fromkeys(label for labels in self.labels for label in labels if label)
        return {label: number for number, label in enumerate(labels)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        numbers: dict[str, int] = {}
        negatives = (negatives for lists in self.negatives for negatives in lists)
        for captions in (*self.captions, *negatives):
            for caption in captions:
                numbers.setdefault(caption.strip(), len(numbers))
        return numbers

    @cached_property
    def texts(self) -> list[str]:
        """The different captions by their ids, without white space around them; then the negatives."""
        return list(self._numbers)

    @cached_property
    def label_of_text(self) -> dict[int, int]:
        """Caption id -> label id, of the first image with that caption and a label."""
        found: dict[int, int] = {}
        for captions, labels in zip(self.captions, self.labels, strict=False):
            for caption, label in zip(captions, labels, strict=True):
                if label:
                    found.setdefault(self._numbers[caption.strip()], self._label_numbers[label])
        return found

    def own_ids(self, row: int) -> list[int]:
        """Return the ids of an image's captions."""
        return [self._numbers[caption.strip()] for caption in self.captions[row]]

    def negative_ids(self, plan: Plan) -> list[list[int]]:
        """Return the ids of the negatives that came with each chosen caption."""
        if not self.negatives:
            return [[] for _ in plan.rows]
        chosen = zip(plan.rows.tolist(), plan.choices.tolist(), strict=True)
        return [[self._numbers[text.strip()] for text in self.negatives[row][choice]] for row, choice in chosen]


def prepare(
    pairs: Iterable[Pair], model: Clip, cache: ImageCache, version: str, threads: int, field: str = "train_data"
) -> TrainingData:
    """Decode every image once, or reuse the pixels of an earlier run.

    Args:
        pairs: those with the same image become one row with several captions. Not read if the cache has them.
        model: resizes and crops the images.
        cache: keeps the pixels.
        version: content hash of the dataset, which holds exactly these pairs.
        threads: number of decoding threads.
        field: argument of `fit` that holds the pairs, for messages.

    Raises:
        InvalidInput: fewer than two images can be decoded, a negative is a caption of its image, or some pairs have a
            score and others do not.
        InvalidDocument: a document is not a pair, or has a score below 0.
    """
    alike = scored_alike(pairs, pair_has_score, field)
    images = (
        SourceImage(pair.image_id, pair.text, pair.image, pair.label, pair.negatives, pair.score) for pair in alike
    )
    decoded = decode_images(images, model, cache, version, threads)
    if len(decoded.texts) < 2:
        raise InvalidInput(
            f"{field} must hold at least two images that can be decoded. Got {decoded}. Check the images."
        )
    for captions, lists in zip(decoded.texts, decoded.negatives, strict=False):
        try:
            check_negatives([negative for negatives in lists for negative in negatives], captions)
        except InvalidDocument as error:
            raise InvalidInput(f"{field}: in the pairs of the image of {captions[0]!r:.60}, {error}") from error
    return TrainingData(decoded.pixels, decoded.texts, decoded.labels, decoded.negatives, decoded.scores)
