"""Converts the samples of tables and shards, whatever their file format, to documents."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..contract.wire import LABEL_TAG, NEGATIVES_TAG
from ..documents.images import decode
from ..documents.pairs import make_pair
from ..documents.tags import MISSING, check_negatives, make_tags, read_caption
from ..exceptions import InvalidDocument
from .local_images import LocalImages, NamedImage
from .rejects import Entries, PassedOver, ahead, usable

if TYPE_CHECKING:
    from docarray import Document

Sample = Mapping[str, Any]
"""Keys 'image' (bytes or a NamedImage), 'text' and 'negative' (a caption or a list of captions), 'label', 'score' and
'language'; each may be missing or None."""
SEED = 0
MAX_CAPTIONS = 1000

Item = TypeVar("Item")


def sampled(entries: Iterable[Item], rate: float | None) -> Iterator[Item]:
    """Yield a share of the entries, the same ones each time; all with None, and all that are passed over.

    Args:
        rate: share in (0, 1].
    """
    chance = random.Random(SEED)
    return (entry for entry in entries if rate is None or _is_passed_over(entry) or chance.random() < rate)


def _is_passed_over(entry: object) -> bool:
    return isinstance(entry, tuple) and any(isinstance(part, PassedOver) for part in entry)


def named_sample(columns: Mapping[str, Sequence[str]], value: Callable[[str], Any], images: LocalImages) -> Sample:
    """Return the sample of one row of a table.

    Args:
        columns: content -> the names of its columns. The captions of several columns become one list, without the
            missing ones.
        value: returns the row's value in a column.
        images: reader of the images that the row names.
    """
    sample: dict[str, Any] = {}
    for content, names in columns.items():
        if len(names) == 1:
            sample[content] = value(names[0])
            continue
        lists = [given if isinstance(given, list | tuple) else [given] for given in map(value, names)]
        sample[content] = [caption for given in lists for caption in given if not _is_missing(caption)]
    return with_named_image(sample, images)


def read_captions(value: object) -> list[str]:
    """Return one caption, or the captions of a list.

    Raises:
        InvalidDocument: no caption, more than MAX_CAPTIONS, or an invalid one, named by its position from 0.
    """
    if not isinstance(value, list | tuple):
        return [read_caption(value)]
    if not 1 <= len(value) <= MAX_CAPTIONS:
        raise InvalidDocument(f"sample must have 1 to {MAX_CAPTIONS} captions. Got {len(value)}. Correct the list.")
    captions = []
    for position, caption in enumerate(value):
        try:
            captions.append(read_caption(caption))
        except InvalidDocument as error:
            raise InvalidDocument(f"{error} (Caption {position} of {len(value)}.)") from error
    return captions


def with_named_image(sample: dict[str, Any], images: LocalImages) -> Sample:
    """Return a sample whose image, if it is a path or an address, is a NamedImage, not read yet.

    Args:
        sample: its 'image' may also be Hugging Face's {'bytes', 'path'}. The path counts only without bytes. Changed.
        images: reader of the images that the file names.
    """
    image = sample.get("image")
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str) and image.strip():
        image = NamedImage(image.strip(), images)
    sample["image"] = image
    return sample


def _is_missing(value: object) -> bool:
    return value is None or value != value or (isinstance(value, str) and value.strip() in MISSING)


@dataclass(frozen=True)
class SampleReader:
    """Checks samples and converts them to documents."""

    task: str
    """'text-to-image' or 'image-to-image'."""
    convert_to_blob: bool = True
    """Whether named images are read; False keeps the addresses."""

    def check(self, sample: Sample) -> tuple[Document, ...]:
        """Raise InvalidDocument for an invalid sample, with at most the head of a named image read."""
        image, _, _ = self._content(sample)
        if isinstance(image, NamedImage):
            image.check()
        return ()

    def start(self, sample: Sample) -> int:
        """Begin to download the image of a sample that is valid; see `LocalImages.start`."""
        image = sample.get("image")
        if not self.convert_to_blob or not isinstance(image, NamedImage) or not image.is_link:
            return 0
        try:
            self._content(sample)
        except InvalidDocument:
            return 0
        return image.start()

    def documents(self, sample: Sample) -> list[Document]:
        """Return a sample's documents.

        Returns:
            For each caption, a pair (see `documents.pairs`) with tags `finetuner_label`, `finetuner_score`,
            `finetuner_negatives` and `language`; or one image with tags `finetuner_label` and `language`. The image is
            a blob, or a uri if it is named and not converted. Training draws one caption of an image in each epoch,
            evaluation uses all.

        Raises:
            InvalidDocument: an invalid sample.
        """
        from docarray import Document

        image, texts, tags = self._content(sample)
        if isinstance(image, NamedImage) and not self.convert_to_blob:
            if self.task == "text-to-image":
                return [self._pair_of_uri(text, image.item, tags) for text in texts]
            return [Document(uri=image.item, modality="image", tags=tags)]
        blob = image.read() if isinstance(image, NamedImage) else image
        if blob is image:
            decode(blob)
        if self.task == "text-to-image":
            return [make_pair(text, blob, tags) for text in texts]
        return [Document(blob=blob, modality="image", tags=tags)]

    def _pair_of_uri(self, text: str, uri: str, tags: Mapping[str, Any]) -> Document:
        from docarray import Document

        chunks = [Document(text=text, modality="text"), Document(uri=uri, modality="image")]
        return Document(chunks=chunks, tags=dict(tags))

    def _content(self, sample: Sample) -> tuple[bytes | NamedImage, list[str], dict[str, Any]]:
        """Return the image, not decoded, the captions (none for image-to-image) and the tags."""
        image, label = sample.get("image"), sample.get("label")
        score, negatives = (
            sample.get(content) if self.task == "text-to-image" else None  # of pairs alone
            for content in ("score", "negative")
        )
        tags = make_tags(label, score, sample.get("language"), negatives)
        if not isinstance(image, bytes | NamedImage) or not image:
            got = "none" if image is None or (isinstance(image, bytes | str) and not image) else f"{image!r:.60}"
            raise InvalidDocument(f"sample must have an image: bytes, a path or an address. Got {got}. Add it.")
        if isinstance(image, NamedImage) and not self.convert_to_blob:
            image.check_remote()
        if self.task == "text-to-image":
            captions = read_captions(sample.get("text"))
            check_negatives(tags.get(NEGATIVES_TAG, ()), captions)
            return image, captions, tags
        if LABEL_TAG not in tags:
            raise InvalidDocument(f"sample must have a label for image-to-image. Got {label!r}. Add it.")
        return image, [], tags


def sample_documents(
    samples: Entries[Sample],
    source: str,
    task: str,
    on_error: str,
    *,
    limit: int | None = None,
    convert_to_blob: bool = True,
) -> Iterator[Document]:
    """Return the documents of samples, read lazily and once.

    Args:
        samples: with their positions.
        source: its name for the user, for messages.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        limit: largest number of samples to use; None for all.
        convert_to_blob: as in `SampleReader`.

    Returns:
        Documents as in `SampleReader.documents`.

    Raises:
        InvalidInput: no samples.
        InvalidDocument: invalid samples, all named in one error after the last sample.
    """
    reader = SampleReader(task, convert_to_blob)
    samples = ahead(samples, reader.start, limit)
    return usable(samples, reader.documents, source=source, on_error=on_error, limit=limit)
