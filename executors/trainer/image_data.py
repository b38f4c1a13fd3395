"""Labelled training pictures, decoded once into a memory-mapped uint8 file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetuner.exceptions import InvalidInput
from finetuner.image_model import ImageModel
from finetuner.labelled import LabelledPicture

from .decoded_pictures import decode_pictures


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


def prepare_images(pictures: Sequence[LabelledPicture], model: ImageModel, file: Path, threads: int) -> ImageData:
    """Decode every picture once.

    Args:
        pictures: with labels.
        model: says how pictures are resized and cropped.
        file: where the pixels are kept, 3 * size * size bytes a picture; it has no name any more afterwards.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two pictures, or two labels, can be decoded.
    """
    pixels, good = decode_pictures(
        [picture.image for picture in pictures],
        lambda row: f"{row} of label {pictures[row].label[:60]!r}",
        model,
        file,
        threads,
    )
    names = sorted({pictures[row].label for row in good})
    if len(good) < 2 or len(names) < 2:
        raise InvalidInput(
            f"train_data must hold at least two pictures of two labels that can be decoded. "
            f"Got {len(good)} of {len(pictures)} pictures, {len(names)} labels. Check pictures and labels."
        )
    number = {name: position for position, name in enumerate(names)}
    labels = np.array([number[pictures[row].label] for row in good], dtype=np.int64)
    return ImageData(pixels, labels, names)
