"""Labelled training pictures, decoded once, and the passes over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from finetuner.documents.labelled import LabelledPicture
from finetuner.exceptions import InvalidInput
from finetuner.models.image_model import ImageModel

from .class_sampler import class_batches, random_batches
from .decoded_pictures import Picture, decode_pictures
from .picture_cache import PictureCache


@dataclass(frozen=True)
class ImageData:
    """Pictures with their labels."""

    pixels: np.ndarray
    """(pictures, 3, size, size) uint8, resized and cropped as the model wants it, memory-mapped."""
    labels: np.ndarray
    """(pictures,) int64, positions in `names`."""
    names: Sequence[str]
    """Of the labels, sorted."""

    def __len__(self) -> int:
        return len(self.labels)

    def plan(
        self, rows: np.ndarray, batch_size: int, items_per_class: int | None, generator: np.random.Generator | None
    ) -> list[np.ndarray]:
        """Return one pass, all its randomness drawn, as the rows of each batch, (batch,) int64.

        Args:
            rows: (pictures,) int, the pictures to take.
            batch_size: pictures a batch, at most; a rest that has no negatives is left out.
            items_per_class: pictures of a label side by side, see `class_batches`; None takes any pictures.
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
        """Return a batch's pictures, (batch, 3, size, size) uint8, and labels, (batch,) int64."""
        return self.pixels[rows], self.labels[rows]


def prepare_images(
    pictures: Iterable[LabelledPicture], model: ImageModel, cache: PictureCache, version: str, threads: int
) -> ImageData:
    """Decode every picture once, or find what an earlier run decoded.

    Args:
        pictures: with labels; not read where the cache has them.
        model: says how pictures are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose pictures these all are.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two pictures, or two labels, can be decoded.
        InvalidDocument: a document is no labelled picture.
    """
    rows = (Picture(str(row), picture.label, picture.image) for row, picture in enumerate(pictures))
    decoded = decode_pictures(rows, model, cache, version, threads)
    labels = [label for (label,) in decoded.texts]
    names = sorted(set(labels))
    if len(labels) < 2 or len(names) < 2:
        raise InvalidInput(
            f"train_data must hold at least two pictures of two labels that can be decoded. "
            f"Got {decoded}, {len(names)} labels. Check pictures and labels."
        )
    number = {name: position for position, name in enumerate(names)}
    return ImageData(decoded.pixels, np.array([number[label] for label in labels], dtype=np.int64), names)
