"""Changes of a stored dataset: captions, and documents left out. Each makes a new version; the old one stays."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from finetuner.documents.tags import read_caption
from finetuner.exceptions import InvalidDocument, InvalidInput, ResourceExhausted
from finetuner.workspace.datasets import Datasets

from ..quota import UploadQuota
from .parts import sized, store

if TYPE_CHECKING:
    from docarray import Document

MAX_CAPTIONS, MAX_REMOVED = 1000, 10_000


@dataclass(frozen=True)
class Edit:
    """Changes of one version of a dataset.

    Raises:
        InvalidInput: a value that is not allowed, or no change.
    """

    name: str
    """Of the dataset."""
    version: str
    """That the changes were made for; another one in between is not overwritten."""
    captions: dict[int, str]
    """Position of a document -> its new caption, at most MAX_CAPTIONS."""
    removed: frozenset[int]
    """Positions of documents to leave out, at most MAX_REMOVED."""
    restore: str = ""
    """Instead of changes: an earlier version to go back to."""

    @classmethod
    def from_dict(cls, given: object) -> Edit:
        """Return the edit of a request; `captions` is a list of {'position', 'text'}."""
        names = ("name", "version", "captions", "removed", "restore")
        if not isinstance(given, dict) or set(given) != set(names):
            raise InvalidInput(f"edit must have the fields {', '.join(names)}. Got {given!r:.120}. Correct it.")
        for name in ("name", "version", "restore"):
            if not isinstance(given[name], str):
                raise InvalidInput(f"{name} must be a text. Got {given[name]!r:.40}. Correct it.")
        captions: dict[int, str] = {}
        for each in _listed(given, "captions", MAX_CAPTIONS):
            if not isinstance(each, dict) or set(each) != {"position", "text"}:
                raise InvalidInput(f"captions must be of position and text. Got {each!r:.80}. Correct it.")
            try:
                captions[_position(each["position"])] = read_caption(each["text"])
            except InvalidDocument as error:
                raise InvalidInput(f"{error} Remove the document to leave it out.") from None
        removed = frozenset(map(_position, _listed(given, "removed", MAX_REMOVED)))
        if bool(given["restore"]) == bool(captions or removed):
            raise InvalidInput("edit must have captions and removed, or restore. Got both or neither. Give one.")
        return cls(given["name"], given["version"], captions, removed, given["restore"])


class Edits:
    """Makes new versions of datasets.

    Args:
        datasets: of a workspace.
        quota: admits each part of a new version.
    """

    def __init__(self, datasets: Datasets, quota: UploadQuota) -> None:
        self._datasets = datasets
        self._quota = quota
        self._editing = Lock()

    def edit(self, edit: Edit, owner: str) -> dict[str, Any]:
        """Make the new version, give it the dataset's name, and return its description.

        Raises:
            DatasetNotFound: no dataset of this name.
            InvalidInput: another version has the name, a position past the end, a document without one caption, or no
                document left.
            ResourceExhausted: another dataset is being changed.
            InsufficientStorage: see `UploadQuota`. Nothing changes.
        """
        if not self._editing.acquire(blocking=False):
            raise ResourceExhausted("one dataset is changed at a time. Another is being changed. Try again later.")
        upload = f"edit {uuid.uuid4().hex}"
        try:
            current = self._datasets.unchanged(edit.name, edit.version)
            if edit.restore:
                return self._restored(edit)
            if (last := max((*edit.captions, *edit.removed))) >= current.documents:
                raise InvalidInput(f"position must be below {current.documents}, the documents. Got {last}.")
            if len(edit.removed) == current.documents:
                raise InvalidInput("a dataset must keep a document. Got all of them removed. Delete the dataset.")
            self._quota.require_free(current.size)
            changed = _changed(self._datasets.documents(edit.version), edit)
            count = store(self._datasets, self._quota, upload, sized(changed), owner)
            return vars(self._datasets.commit(edit.name, upload, count))
        finally:
            self._datasets.forget(upload)
            self._editing.release()

    def _restored(self, edit: Edit) -> dict[str, Any]:
        if not self._datasets.holds(edit.restore):
            raise InvalidInput(f"restore must be an earlier version. Got {edit.restore[:80]!r}, which is not here.")
        return vars(self._datasets.commit(edit.name, "none", 0, edit.restore))


def _changed(documents: Iterable[Document], edit: Edit) -> Iterator[Document]:
    for position, document in enumerate(documents):
        if position in edit.removed:
            continue
        if position in edit.captions:
            texts = [part for part in (document, *document.chunks) if part.text]
            if len(texts) != 1:
                raise InvalidInput(
                    f"document {position} must have one caption to change. Got {len(texts)}. Remove it, or leave it."
                )
            texts[0].text = edit.captions[position]
        yield document


def _listed(given: dict[str, Any], name: str, most: int) -> list[Any]:
    value = given[name]
    if not isinstance(value, list) or len(value) > most:
        raise InvalidInput(f"{name} must be a list of at most {most}. Got {value!r:.60}. Make several changes.")
    return value


def _position(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or not 0 <= value < 2**53:
        raise InvalidInput(f"position must be a whole number from 0 on. Got {value!r:.40}. Correct it.")
    return int(value)
