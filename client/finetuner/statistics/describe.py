"""The statistics of a data set, read document by document, and the overlap of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ..contract.wire import LABEL_TAG
from ..documents.content import kind_of
from ..documents.images import read_data_uri
from ..documents.pairs import png
from ..documents.tags import read_label
from ..exceptions import InvalidDocument
from .captions import Captions, CaptionStatistics
from .images import MOST_LOOKED_AT, Images, ImageStatistics
from .looks import near_groups
from .spread import Spread
from .tokens import TokenCounter

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class LabelStatistics:
    """Statistics of the labels of a data set."""

    count: int
    """Different labels."""
    documents: Spread
    """Documents of a label."""
    single: int
    """Labels of one document."""
    without: int
    """Documents without a label."""
    same: float
    """Share of all couples of documents that have the same label."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set."""

    documents: int
    """Documents."""
    kinds: dict[str, int]
    """'pairs', 'scored pairs', 'labelled' or 'documents' -> their number."""
    captions: CaptionStatistics | None
    """None without captions."""
    images: ImageStatistics | None
    """None without images."""
    labels: LabelStatistics | None
    """None without labels."""
    elsewhere: int
    """Images that are addresses only, which nobody reads here."""


@dataclass(frozen=True)
class Overlap:
    """The part of evaluation data that is training data, too."""

    images: int
    """Different files of evaluation data that are also training data."""
    near_images: int
    """Further ones that look like an image of the training data."""
    first: tuple[int, int] | None
    """Positions of the first such document and of one of the training data that is like it, None without one."""
    captions: int
    """Different captions of evaluation data that are also training data."""


class Collector:
    """Collects the content of documents for statistics; images themselves are not kept.

    Args:
        counter: counts tokens of captions; None for no count.
        most: image files to look at.
    """

    def __init__(self, counter: TokenCounter | None = None, most: int = MOST_LOOKED_AT) -> None:
        self.captions = Captions(counter)
        self.images = Images(most)
        self._documents = 0
        self._elsewhere = 0
        self._kinds: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()

    def add_all(self, documents: Iterable[Document]) -> Self:
        """Add documents, one at a time."""
        for document in documents:
            self.add(document)
        return self

    def add(self, document: Document) -> None:
        """Add a document: its own text and image, and those of its chunks."""
        position, parts = self._documents, (document, *document.chunks)
        self._documents += 1
        self._kinds[kind_of(document)] += 1
        texts = [part.text for part in parts if part.text.strip()]
        first, key = texts[0] if texts else "", b""
        for part in parts:
            if part.text:
                continue
            try:
                blob = _blob(part)
            except InvalidDocument as error:
                self.images.add_broken(position, error)
                continue
            if blob:
                key = self.images.add(position, blob, first)
            elif part.uri:
                self._elsewhere += 1
        for text in texts:
            self.captions.add(position, text, key)
        found = (read_label(part.tags.get(LABEL_TAG)) for part in parts)
        self._labels[next(filter(None, found), "")] += 1

    def statistics(self) -> Statistics:
        """Return the statistics of all documents so far."""
        labels = {label: count for label, count in self._labels.items() if label}
        return Statistics(
            documents=self._documents,
            kinds=dict(self._kinds.most_common()),
            captions=self.captions.statistics(),
            images=self.images.statistics(),
            labels=LabelStatistics(
                count=len(labels),
                documents=Spread.of(list(labels.values())),
                single=sum(count == 1 for count in labels.values()),
                without=self._labels[""],
                same=same_labels(labels.values(), self._documents),
            )
            if labels
            else None,
            elsewhere=self._elsewhere,
        )


def same_labels(counts: Iterable[int], documents: int) -> float:
    """Return the share of all couples of documents that have the same label.

    Args:
        counts: documents of each label.
        documents: number of all, those without a label included.
    """
    return sum(count**2 for count in counts) / max(documents, 1) ** 2


def overlap(train: Collector, evaluation: Collector) -> Overlap:
    """Return the part of evaluation data that is training data, too. Near duplicates are looked for among the looks."""
    shared = train.images.keys & evaluation.images.keys
    learned = len(train.images.looks)
    where = [*train.images.documents, *evaluation.images.documents]
    keys = [*train.images.look_keys, *evaluation.images.look_keys]
    first, near = None, 0
    for group in near_groups([*train.images.looks, *evaluation.images.looks]):
        seen = [at for at in group if at < learned]
        scored = [at for at in group if at >= learned]
        if not (seen and scored):
            continue
        near += sum(keys[at] not in shared for at in scored)
        first = min(first or (where[scored[0]], where[seen[0]]), (where[scored[0]], where[seen[0]]))
    return Overlap(len(shared), near, first, len(train.captions.keys & evaluation.captions.keys))


def _blob(document: Document) -> bytes:
    """Return the image file that a document holds, b'' for none."""
    if document.blob:
        blob: bytes = document.blob
        return blob
    if document.tensor is not None:
        return png(document.tensor)
    return read_data_uri(document.uri) if document.uri.startswith("data:") else b""
