"""Prepares labelled training images and draws the batches of each epoch."""

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
    """(images, 3, size, size) uint8, resized and cropped for the model, memory-mapped."""
    labels: np.ndarray
    """(images,) int64, positions in `names`."""
    names: Sequence[str]
    """Names of the labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def plan(
        self, rows: np.ndarray, batch_size: int, items_per_class: int | None, generator: np.random.Generator | None
    ) -> list[np.ndarray]:
        """Draw one epoch: the rows of each batch, (batch,) int64.

        Args:
            rows: (images,) int, the images to use.
            batch_size: most images in a batch. A last batch without negatives is left out.
            items_per_class: images of a label side by side, see `class_batches`; None takes any images.
            generator: draws the order. None keeps it, with `items_per_class` None.

        Raises:
            InvalidInput: batches are too small for two labels.
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

    def with_numbers(self, names: Sequence[str], *, others: bool) -> ImageData:
        """Return the same images with the labels numbered as in other data.

        Args:
            names: of the labels of the other data.
            others: whether labels that the other data do not have are allowed; they get the numbers that follow.

        Raises:
            InvalidInput: a label that is not allowed.
        """
        new = sorted(set(self.names) - set(names))
        if new and not others:
            raise InvalidInput(
                f"eval_data must hold labels of train_data for a loss that learns them. Got {new[0]!r:.80}, which is "
                f"not among them. Remove its images, or set val_split in place of eval_data."
            )
        all_names = [*names, *new]
        number = {name: position for position, name in enumerate(all_names)}
        numbers = np.array([number[name] for name in self.names], dtype=np.int64)
        return ImageData(self.pixels, numbers[self.labels], all_names)


def prepare_images(
    images: Iterable[LabelledImage],
    model: ImageModel,
    cache: ImageCache,
    version: str,
    threads: int,
    field: str = "train_data",
) -> ImageData:
    """Decode every image once, or reuse the pixels of an earlier run.

    Args:
        images: with labels; not read if the cache has them.
        model: resizes and crops the images.
        cache: keeps the pixels.
        version: content hash of the dataset, which holds exactly these images.
        threads: number of decoding threads.
        field: argument of `fit` that holds the images, for messages.

    Raises:
        InvalidInput: fewer than two images, or two labels, can be decoded.
        InvalidDocument: a document is not a labelled image.
    """
    rows = (SourceImage(str(row), image.label, image.image) for row, image in enumerate(images))
    decoded = decode_images(rows, model, cache, version, threads)
    labels = [label for (label,) in decoded.texts]
    names = sorted(set(labels))
    if len(labels) < 2 or len(names) < 2:
        raise InvalidInput(
            f"{field} must hold at least two images of two labels that can be decoded. "
            f"Got {decoded}, {len(names)} labels. Check images and labels."
        )
    number = {name: position for position, name in enumerate(names)}
    return ImageData(decoded.pixels, np.array([number[label] for label in labels], dtype=np.int64), names)
