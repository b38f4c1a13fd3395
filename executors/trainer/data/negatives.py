"""The negatives of a batch: captions that came with its pairs, and captions that the model confuses with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .training_data import Plan, TrainingData

FILLING = ""  # the text of a place without a negative


@dataclass(frozen=True)
class BatchNegatives:
    """Captions that do not fit the images of one process's share of a batch, equally many for each."""

    texts: list[str]
    """batch * most captions, image by image; FILLING for images with fewer."""
    ids: np.ndarray
    """(batch, most) int64 caption ids; -1 for FILLING."""
    label_ids: np.ndarray
    """(batch, most) int64 label of the image with that caption, -1 for none."""
    known: np.ndarray
    """(batch, captions) int64 ids of all captions of each image; -1 for images with fewer."""

    def with_rows_of_none(self, rows: int) -> BatchNegatives:
        """Return the same with as many images more, which have no negatives."""
        none = [
            np.pad(each, ((0, rows), (0, 0)), constant_values=-1) for each in (self.ids, self.label_ids, self.known)
        ]
        return BatchNegatives([*self.texts, *[FILLING] * (rows * self.ids.shape[1])], *none)


class Mining(Protocol):
    """Captions that were mined."""

    def of_row(self, row: int) -> list[int]:
        """Return the ids of the captions mined for an image."""


class Grouping(Protocol):
    """Groups of captions that are nearly the same."""

    def of_texts(self, ids: np.ndarray) -> np.ndarray:
        """Return caption ids of any shape as ids of groups; -1 stays."""


class NegativeTexts:
    """The negatives of each image.

    Args:
        data: with its negatives.
        miner: finds further ones.
        near: a negative in the group of a caption of its image does not count. None: only equal captions do not.
    """

    def __init__(self, data: TrainingData, miner: Mining | None = None, near: Grouping | None = None) -> None:
        self._data = data
        self._miner = miner
        self._near = near

    def of(self, own: Plan, whole: Plan) -> BatchNegatives | None:
        """Return the negatives of one process's share of a batch; None if the whole batch has none.

        Args:
            own: the share.
            whole: the batch. All processes get equally many negatives for an image, as many as its first in number.
        """
        most = max(map(len, self._ids(whole)))
        if not most:
            return None
        data, ids = self._data, filled(self._ids(own), most)
        labels = [[data.label_of_text.get(number, -1) for number in row] for row in ids.tolist()]
        known = [data.own_ids(row) for row in own.rows.tolist()]
        texts = [data.texts[number] if number >= 0 else FILLING for number in ids.ravel().tolist()]
        of_images = filled(known, max(map(len, known)))
        if self._near is not None:
            ids, of_images = self._near.of_texts(ids), self._near.of_texts(of_images)
        return BatchNegatives(texts, ids, np.array(labels, dtype=np.int64), of_images)

    def _ids(self, plan: Plan) -> list[list[int]]:
        found = self._data.negative_ids(plan)
        if self._miner is None:
            return found
        mined = map(self._miner.of_row, plan.rows.tolist())
        return [list(dict.fromkeys([*one, *other])) for one, other in zip(found, mined, strict=True)]


def filled(lists: Sequence[Sequence[int]], most: int) -> np.ndarray:
    """Return (lists, most) int64, the lists with -1 in the places that are left."""
    return np.array([[*each, *[-1] * (most - len(each))] for each in lists], dtype=np.int64).reshape(len(lists), most)
