"""Pictures decoded once into a memory-mapped uint8 file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from finetuner.exceptions import InvalidDocument
from finetuner.images import decode
from finetuner.model_kinds import Model

log = logging.getLogger("finetuner")


def decode_pictures(
    blobs: Sequence[bytes], described: Callable[[int], str], model: Model, file: Path, threads: int
) -> tuple[np.ndarray, list[int]]:
    """Decode every picture; one that cannot be decoded is left out with a warning.

    Args:
        blobs: picture files.
        described: row -> what the warning calls it.
        model: says how pictures are resized and cropped.
        file: where the pixels are kept, 3 * size * size bytes a picture; it has no name any more afterwards.
        threads: that decode.

    Returns:
        (good, 3, size, size) uint8, memory-mapped, and the rows of `blobs` that they come from, in order.
    """
    size = model.preprocess_config.size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (max(len(blobs), 1), 3, height, width)  # an empty file cannot be mapped
    pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    file.unlink()  # the mapping stays, and the space is free when this process ends, also where it is killed
    broken: set[int] = set()

    def decode_into(row: int) -> None:
        try:
            pixels[row] = cropped(model, blobs[row])
        except InvalidDocument as error:
            log.warning("Picture %s left out: %s", described(row), error)
            broken.add(row)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        list(pool.map(decode_into, range(len(blobs))))
    good = [row for row in range(len(blobs)) if row not in broken]
    if broken:
        log.warning("%d of %d pictures cannot be decoded and are left out", len(broken), len(blobs))
        for row, old in enumerate(good):  # rows only move up, so no good one is overwritten
            pixels[row] = pixels[old]
    return pixels[: len(good)], good


def cropped(model: Model, blob: bytes) -> np.ndarray:
    """Return a picture as the model sees it before normalisation: (3, size, size) uint8."""
    picture: Any = decode(blob)
    for step in model.preprocess.transforms[:-2]:  # type: ignore[attr-defined]  # all but to-tensor and normalise
        picture = step(picture)
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)
