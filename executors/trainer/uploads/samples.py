"""Sample data for people who look around: drawn garments with captions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any

from finetuner.catalogue import fashion
from finetuner.contract.checks import checked_name
from finetuner.documents.pairs import make_pair
from finetuner.exceptions import AlreadyExists, DatasetNotFound, ResourceExhausted
from finetuner.workspace.datasets import Datasets

from ..quota import UploadQuota
from .parts import sized, store

if TYPE_CHECKING:
    from docarray import Document

ITEMS = 100  # of several images each


class Samples:
    """Makes datasets of sample data.

    Args:
        datasets: of a workspace.
        quota: admits each part.
    """

    def __init__(self, datasets: Datasets, quota: UploadQuota) -> None:
        self._datasets, self._quota = datasets, quota
        self._drawing = Lock()

    def make(self, name: object, owner: str) -> dict[str, Any]:
        """Make a dataset of sample data, and return its description.

        Raises:
            AlreadyExists: a dataset has that name.
            InvalidInput: a name that is none.
            ResourceExhausted: another one is being made.
            InsufficientStorage: see `UploadQuota`.
        """
        checked_name(name, "name")
        if not self._drawing.acquire(blocking=False):
            raise ResourceExhausted("sample data is made once at a time. It is being made. Try again later.")
        upload = f"sample {uuid.uuid4().hex}"
        try:
            self._require_new(str(name))
            count = store(self._datasets, self._quota, upload, sized(_pairs()), owner)
            return vars(self._datasets.commit(str(name), upload, count))
        finally:
            self._datasets.forget(upload)
            self._drawing.release()

    def _require_new(self, name: str) -> None:
        try:
            self._datasets.find(name)
        except DatasetNotFound:
            return
        raise AlreadyExists(f"name must be new. Got {name!r}, which exists. Look at it, or choose another name.")


def _pairs() -> Iterator[Document]:
    for image in fashion("train", items=ITEMS):
        yield make_pair(image.captions["en"], image.jpeg, {"product": image.item})
