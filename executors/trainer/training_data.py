"""Training pictures, decoded once into a memory-mapped uint8 file, with all captions of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finetuner.exceptions import InvalidInput
from finetuner.pairs import Pair

from .decoded_pictures import decode_pictures

if TYPE_CHECKING:
    from finetuner.clip import Clip


@dataclass(frozen=True)
class TrainingData:
    """Pictures with their captions; the same picture under several captions is one row."""

    pixels: np.ndarray
    """(pictures, 3, size, size) uint8, resized and cropped as the model wants it, memory-mapped."""
    captions: Sequence[Sequence[str]]
    """Of each picture, at least one."""

    def __len__(self) -> int:
        return len(self.captions)

    def batches(
        self, rows: np.ndarray, batch_size: int, generator: np.random.Generator | None
    ) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Yield one pass: every picture once, with one of its captions.

        Args:
            rows: (pictures,) int, the pictures to take.
            batch_size: pictures a batch; a rest of one is left out, since it has no negatives.
            generator: order and captions; None is the given order and the first caption.

        Yields:
            (batch, 3, size, size) uint8 and the batch's captions.
        """
        order = rows if generator is None else generator.permutation(rows)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            if len(batch) < 2:
                return
            yield (
                self.pixels[batch],
                [
                    self.captions[row][0 if generator is None else int(generator.integers(len(self.captions[row])))]
                    for row in batch.tolist()
                ],
            )


def prepare(pairs: Sequence[Pair], model: Clip, file: Path, threads: int) -> TrainingData:
    """Decode every picture once.

    Args:
        pairs: several with the same picture become one row with several captions.
        model: says how pictures are resized and cropped.
        file: where the pixels are kept, 3 * size * size bytes a picture; it has no name any more afterwards.
        threads: that decode.

    Raises:
        InvalidInput: fewer than two pictures can be decoded.
    """
    captions: dict[str, list[str]] = {}
    blobs: dict[str, bytes] = {}
    for pair in pairs:
        captions.setdefault(pair.image_id, []).append(pair.text)
        blobs[pair.image_id] = pair.image
    ids = list(blobs)
    pixels, good = decode_pictures(
        list(blobs.values()), lambda row: f"of {captions[ids[row]][0][:60]!r}", model, file, threads
    )
    if len(good) < 2:
        raise InvalidInput(
            f"train_data must hold at least two pictures that can be decoded. Got {len(good)} of {len(ids)}. "
            f"Check the pictures."
        )
    return TrainingData(pixels, [captions[ids[row]] for row in good])
