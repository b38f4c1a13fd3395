"""Converts rows of a CSV file to documents: captioned or labelled images, pairs of images, scored pairs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ...contract.wire import LABEL_TAG, SCORE_TAG
from ...documents.pairs import make_pair
from ...documents.tags import make_tags, read_caption, read_label, read_score
from ...exceptions import InvalidDocument, InvalidInput
from ..local_images import WEB, LocalImages, NamedImage, is_remote
from ..rejects import checked_then_used
from .columns import Columns, proposed, shown
from .csv_file import CsvFile, CSVOptions, Row
from .csv_named import named_csv_documents

if TYPE_CHECKING:
    from docarray import Document


def csv_documents(
    source: str | os.PathLike[str] | TextIO,
    options: CSVOptions,
    *,
    task: str,
    on_error: str,
    columns: Columns | None = None,
    inside: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of a CSV file; images are read lazily.

    A file with a header is read by `csv_named.named_csv_documents`. Without one, the first line is data, and for
    `text-to-image`, two columns are a text and an image, in the same order in the whole file. For
    `image-to-image`, two columns are two images, and rows with the same first image share a label; with `is_labeled`,
    they are an image and its label. A third column is a score.

    Args:
        source: a path or an open text file. Relative paths start at its folder, then at the working directory.
        options: of the CSV file.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        columns: content -> name of its column in the header; see `columns.find_columns`. None: `CsvFile` tells whether
            the first line is a header.
        inside: folder that images may not leave; None for any.

    Returns:
        For `text-to-image`, pairs (see `documents.pairs`). For `image-to-image`, images with the tag `finetuner_label`,
        or, with scores, parents of two images. Scores are in the tag `finetuner_score`.

    Raises:
        InvalidInput: an unreadable or empty file, a header that does not tell, or options that do not fit the task.
        InvalidDocument: invalid lines, all named in one error at this call. An image with a damaged later part is
            found and named only when it is read.
    """
    if options.is_labeled and task == "text-to-image":
        raise InvalidInput(
            "CSVOptions(is_labeled=True) is for images with labels, but text-to-image trains on texts and "
            "images. Leave it out and give columns text and image, or choose an image-to-image model."
        )
    file = CsvFile(source, options, columns, inside)
    if file.header is not None:
        return named_csv_documents(file, options, columns, task=task, on_error=on_error)
    layout = _Layout.of(file, options, task)
    return checked_then_used(
        file.rows,
        layout.check,
        layout.documents,
        source=file.name,
        on_error=on_error,
        limit=options.size,
        start=layout.start,
    )


@dataclass(frozen=True)
class _Content:
    """The content of one row."""

    images: tuple[str, ...]
    text: str = ""
    label: str = ""
    score: float | None = None


@dataclass
class _Layout:
    """The meaning of a file's columns, and the conversion of its rows."""

    columns: int
    """2, or 3 with a score."""
    image_column: int | None
    """0 or 1, if the other column is a text; None if both are images."""
    options: CSVOptions
    images: LocalImages
    labels: set[str] = field(default_factory=set)
    """First columns of pairs of images that have a document already."""

    @classmethod
    def of(cls, file: CsvFile, options: CSVOptions, task: str) -> _Layout:
        rows, images = file.first_rows(), file.images
        counts = Counter(len(row.fields) for row in rows if len(row.fields) in (2, 3))
        columns = 2 if options.is_labeled or not counts else counts.most_common(1)[0][0]
        if task != "text-to-image":
            return cls(columns, None, options, images)
        votes: Counter[int] = Counter()
        for row in rows:
            looks = [images.looks_like_image(value) for value in row.fields[:2]]
            if len(row.fields) == columns and looks.count(True) == 1:
                votes[looks.index(True)] += 1
        if not votes and any(len(row.fields) == columns for row in rows):
            first = next(row for row in rows if len(row.fields) == columns)
            raise InvalidInput(
                f"{file.name} must have a text column and a column of images' paths or URIs. Got {first.fields[:2]} "
                f"in line {first.line}; the image column is unclear in the first {len(rows)} rows. Check the paths."
            )
        return cls(columns, votes.most_common(1)[0][0] if votes else 0, options, images)

    def check(self, row: Row) -> tuple[Document, ...]:
        """Raise InvalidDocument for an invalid row, without reading its images."""
        for image in self._content(row).images:
            self.images.check(image)
        return ()

    def start(self, row: Row) -> int:
        """Begin to download the images of a row that is valid; see `LocalImages.start`."""
        if not self.options.convert_to_blob or not any(field.startswith(WEB) for field in row.fields[:2]):
            return 0
        try:
            return max(map(self.images.start, self._read(row.fields).images))
        except InvalidDocument:
            return 0

    def documents(self, row: Row) -> list[Document]:
        """Return a row's documents.

        Raises:
            InvalidDocument: an invalid row.
        """
        from docarray import Document

        content = self._content(row)
        if self.image_column is None:
            return self._of_images(content)
        tags = make_tags(score=content.score)
        if self.options.convert_to_blob:
            return [make_pair(content.text, self.images.read(content.images[0]), tags)]
        text = Document(text=content.text, modality="text")
        return [Document(chunks=[text, self._document(content.images[0])], tags=tags)]

    def _of_images(self, content: _Content) -> list[Document]:
        from docarray import Document

        documents = [self._document(image) for image in content.images]
        if content.score is not None:
            return [Document(chunks=documents, tags={SCORE_TAG: content.score})]
        for document in documents:
            document.tags[LABEL_TAG] = content.label
        if len(documents) == 2:  # the first image of several pairs becomes one document
            if content.label in self.labels:
                return documents[1:]
            self.labels.add(content.label)
        return documents

    def _document(self, image: str) -> Document:
        from docarray import Document

        if self.options.convert_to_blob:
            return Document(blob=self.images.read(image), modality="image")
        return Document(uri=image, modality="image")

    def _content(self, row: Row) -> _Content:
        try:
            return self._read(row.fields)
        except InvalidDocument as error:
            hint = ""
            if row.line == 1 and not any(map(self.images.looks_like_image, row.fields)):
                task = "image-to-image" if self.image_column is None else "text-to-image"
                hint = (
                    f" If it is a header, with the columns {shown(row.fields)}, name them, for example "
                    f"columns={proposed(row.fields, {}, task)}."
                )
            raise InvalidDocument(f"{error}{hint}") from error

    def _read(self, fields: list[str]) -> _Content:
        if len(fields) != self.columns:
            allowed = "2 columns, item and label" if self.options.is_labeled else "2 columns, or 3 with a score"
            raise InvalidDocument(
                f"row must have {self.columns} columns (every row of a file has {allowed}). Got {len(fields)}: "
                f"{_cut(fields)}. Check quotes and CSVOptions(dialect=...)."
            )
        if not all(fields):
            raise InvalidDocument(f"row must have no empty column. Got {_cut(fields)}. Fill it.")
        score = read_score(fields[2]) if self.columns == 3 else None
        if self.image_column is not None:
            image, text = fields[self.image_column], fields[1 - self.image_column]
            self._check_order(image, text)
            content = _Content((self._checked(image),), text=read_caption(text), score=score)
        elif self.options.is_labeled:
            if not (label := read_label(fields[1])):
                raise InvalidDocument(f"image must have a label. Got {fields[1]!r}, a missing value. Add it.")
            content = _Content((self._checked(fields[0]),), label=label)
        else:
            content = _Content((self._checked(fields[0]), self._checked(fields[1])), label=fields[0], score=score)
        return content

    def _check_order(self, image: str, text: str) -> None:
        if not self.images.looks_like_image(image) and self.images.looks_like_image(text):
            order = ("image", "text") if self.image_column == 0 else ("text", "image")
            raise InvalidDocument(
                f"row must be {order[0]}, {order[1]} like the first rows. Got {_cut([image])} where the image "
                f"should be, and {_cut([text])} where the text should be. Swap them."
            )

    def _checked(self, image: str) -> str:
        if not self.options.convert_to_blob:
            NamedImage(image, self.images).check_remote()
        if self.options.convert_to_blob and not is_remote(image):
            self.images.path_of(image)
        return image


def _cut(fields: list[str]) -> str:
    shown = ", ".join(repr(value if len(value) <= 40 else f"{value[:37]}...") for value in fields[:5])
    return shown if len(fields) <= 5 else f"{shown}, ..."
