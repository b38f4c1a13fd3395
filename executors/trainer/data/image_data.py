"""Labelled training images, decoded once, and the passes over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from finetuner.documents.labelled import LabelledImage
from finetuner.exceptions import InvalidInput
from finetuner.models.image_model import ImageModel

from .class_sampler import class_batches, random_batches
from .decoded_images import SourceImage, decode_images
from .image_cache import ImageCache


@dataclass(frozen=True)
class ImageData:
    """Images with their labels."""

    pixels: np.ndarray
    """(images, 3, size, size) uint8, resized and cropped as the model wants it, memory-mapped."""
    labels: np.ndarray
    """(images,) int64, positions in `names`."""
    names: Sequence[str]
    """Of the labels, sorted."""

    def __len__(self) -> int:
        return len(self.labels)

    def plan(
        self, rows: np.ndarray, batch_size: int, items_per_class: int | None, generator: np.random.Generator | None
    ) -> list[np.ndarray]:
        """Return one pass, all its randomness drawn, as the rows of each batch, (batch,) int64.

        Args:
            rows: (images,) int, the images to take.
            batch_size: images a batch, at most; a rest that has no negatives is left out.
            items_per_class: images of a label side by side, see `class_batches`; None takes any images.
            generator: order; None is the given order, with `items_per_class` None.

        Raises:
            InvalidInput: batches too small for two labels.
        """
        if items_per_class is None:
            taken = random_batches(len(rows), batch_size, generator)
        else:
            assert generator is not None
            taken = class_batches(self.labels[rows], batch_size, items_per_class, generator)
        return [rows[positions] for positions in taken]

    def fetch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch's images, (batch, 3, size, size) uint8, and labels, (batch,) int64."""
        return self.pixels[rows], self.labels[rows]


def prepare_images(
    images: Iterable[LabelledImage], model: ImageModel, cache: ImageCache, version: str, threads: int
) -> ImageData:
    """Decode every image once, or find what an earlier run decoded.

    Args:
        images: with labels; not read where the cache has them.
        model: says how images are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose images these all are.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two images, or two labels, can be decoded.
        InvalidDocument: a document is no labelled image.
    """
    rows = (SourceImage(str(row), image.label, image.image) for row, image in enumerate(images))
    decoded = decode_images(rows, model, cache, version, threads)
    labels = [label for (label,) in decoded.texts]
    names = sorted(set(labels))
    if len(labels) < 2 or len(names) < 2:
        raise InvalidInput(
            f"train_data must hold at least two images of two labels that can be decoded. "
            f"Got {decoded}, {len(names)} labels. Check images and labels."
        )
    number = {name: position for position, name in enumerate(names)}
    return ImageData(decoded.pixels, np.array([number[label] for label in labels], dtype=np.int64), names)
