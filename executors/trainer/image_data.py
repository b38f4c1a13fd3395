"""Labelled training pictures, decoded once into a memory-mapped uint8 file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.image_model import ImageModel
from finetuner.images import decode
from finetuner.labelled import LabelledPicture

log = logging.getLogger("finetuner")


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
    size = model.preprocess_config.size
    shape = (max(len(pictures), 1), 3, size, size)  # an empty file cannot be mapped
    pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    file.unlink()  # the mapping stays, and the space is free when this process ends, also where it is killed
    broken: list[int] = []

    def decode_into(row: int) -> None:
        try:
            pixels[row] = _cropped(model, pictures[row].image)
        except InvalidDocument as error:
            log.warning("Picture %d of label %r left out: %s", row, pictures[row].label[:60], error)
            broken.append(row)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(decode_into, range(len(pictures))))
    left_out = set(broken)
    good = [row for row in range(len(pictures)) if row not in left_out]
    names = sorted({pictures[row].label for row in good})
    if len(good) < 2 or len(names) < 2:
        raise InvalidInput(
            f"train_data must hold at least two pictures of two labels that can be decoded. "
            f"Got {len(good)} of {len(pictures)} pictures, {len(names)} labels. Check pictures and labels."
        )
    if broken:
        log.warning("%d of %d pictures cannot be decoded and are left out", len(broken), len(pictures))
        for row, old in enumerate(good):  # rows only move up, so no good one is overwritten
            pixels[row] = pixels[old]
    number = {name: position for position, name in enumerate(names)}
    labels = np.array([number[pictures[row].label] for row in good], dtype=np.int64)
    return ImageData(pixels[: len(good)], labels, names)


def _cropped(model: ImageModel, blob: bytes) -> np.ndarray:
    """Return a picture as the model sees it before normalisation: (3, size, size) uint8."""
    picture: Any = decode(blob)
    for step in model.preprocess.transforms[:-2]:  # type: ignore[attr-defined]  # all but to-tensor and normalise
        picture = step(picture)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
