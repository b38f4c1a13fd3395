"""Splits a stored dataset into two new ones, for training and evaluation. The dataset stays."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from finetuner.contract.checks import checked_name
from finetuner.contract.wire import LABEL_TAG
from finetuner.exceptions import AlreadyExists, DatasetNotFound, InvalidInput, ResourceExhausted
from finetuner.workspace.datasets import Datasets

from ..quota import UploadQuota
from .parts import sized, store

if TYPE_CHECKING:
    from docarray import Document

LEAST, MOST = 0.01, 0.9  # of the share


@dataclass(frozen=True)
class Split:
    """A dataset and its two parts.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    name: str
    """Of the dataset."""
    version: str
    """That was looked at; another one in between is not split."""
    train: str
    """Name of the new dataset with most documents."""
    evaluation: str
    """Name of the new dataset with the others."""
    share: float
    """Of the groups for evaluation, in [LEAST, MOST]. A group has one label, or else one image."""

    def __post_init__(self) -> None:
        checked_name(self.train, "train")
        checked_name(self.evaluation, "evaluation")
        if len({self.name, self.train, self.evaluation}) != 3:
            raise InvalidInput(
                f"train and evaluation must be two new names. Got {self.train!r} and {self.evaluation!r}. Change them."
            )
        if not LEAST <= self.share <= MOST:
            raise InvalidInput(f"share must be from {LEAST} to {MOST}. Got {self.share!r:.40}. Correct it.")

    @classmethod
    def from_dict(cls, given: object) -> Split:
        """Return the split of a request."""
        names = ("name", "version", "train", "evaluation", "share")
        if not isinstance(given, dict) or set(given) != set(names):
            raise InvalidInput(f"split must have the fields {', '.join(names)}. Got {given!r:.120}. Correct it.")
        for name in names[:4]:
            if not isinstance(given[name], str):
                raise InvalidInput(f"{name} must be a text. Got {given[name]!r:.40}. Correct it.")
        if isinstance(given["share"], bool) or not isinstance(given["share"], int | float):
            raise InvalidInput(f"share must be a number. Got {given['share']!r:.40}. Correct it.")
        return cls(**{**given, "share": float(given["share"])})


class Splits:
    """Splits datasets.

    Args:
        datasets: of a workspace.
        quota: admits each part of the new datasets.
    """

    def __init__(self, datasets: Datasets, quota: UploadQuota) -> None:
        self._datasets, self._quota = datasets, quota
        self._splitting = Lock()

    def split(self, split: Split, owner: str) -> dict[str, Any]:
        """Make both datasets, and return {'train', 'evaluation'}: their descriptions.

        A hash decides about each group, so that the same data is always split in the same way.

        Raises:
            DatasetNotFound: no dataset of this name.
            AlreadyExists: a dataset has one of the new names.
            InvalidInput: another version has the name, or fewer than two groups.
            ResourceExhausted: another dataset is being split.
            InsufficientStorage: see `UploadQuota`. Nothing changes.
        """
        if not self._splitting.acquire(blocking=False):
            raise ResourceExhausted("one dataset is split at a time. Another is being split. Try again later.")
        uploads = [f"split {uuid.uuid4().hex}" for _ in range(2)]
        try:
            current = self._datasets.unchanged(split.name, split.version)
            names = (split.train, split.evaluation)
            for name in names:
                self._require_new(name)
            self._quota.require_free(current.size)
            held_out = self._held_out(split)
            made = []
            for side, (name, upload) in enumerate(zip(names, uploads, strict=True)):
                chosen = self._side(split.version, held_out, bool(side))
                count = store(self._datasets, self._quota, upload, sized(chosen), owner)
                made.append((name, upload, count))
            train, evaluation = (vars(self._datasets.commit(*each)) for each in made)
            return {"train": train, "evaluation": evaluation}
        finally:
            for upload in uploads:
                self._datasets.forget(upload)
            self._splitting.release()

    def _held_out(self, split: Split) -> frozenset[bytes]:
        """Return the keys of the groups for evaluation: at least one, and not all."""
        keys = sorted({group_of(document) for document in self._datasets.documents(split.version)})
        if len(keys) < 2:
            raise InvalidInput(
                f"a dataset must have two different images, or labels, to be split. Got {len(keys)}. Add others."
            )
        return frozenset(keys[: min(max(round(split.share * len(keys)), 1), len(keys) - 1)])

    def _side(self, version: str, held_out: frozenset[bytes], wanted: bool) -> Iterator[Document]:
        for document in self._datasets.documents(version):
            if (group_of(document) in held_out) == wanted:
                yield document

    def _require_new(self, name: str) -> None:
        try:
            self._datasets.find(name)
        except DatasetNotFound:
            return
        raise AlreadyExists(f"train and evaluation must be new names. Got {name!r}, which exists. Choose another.")


def group_of(document: Document) -> bytes:
    """Return the key of what must stay on one side, 16 bytes: the label's, or else the image's, or else the text's."""
    label = document.tags.get(LABEL_TAG)
    parts = [document, *document.chunks]
    image = next((part for part in parts if part.blob or part.tensor is not None or part.uri), None)
    if label is not None:
        content = f"label {label}".encode()
    elif image is None:
        content = "".join(part.text for part in parts).encode()
    elif image.blob:
        content = image.blob
    else:
        content = image.uri.encode() if image.tensor is None else image.tensor.tobytes()
    return hashlib.sha256(content).digest()[:16]
