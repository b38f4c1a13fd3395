"""Converts image files to documents: one folder per class, or a caption file beside each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..documents.pairs import make_pair
from ..documents.tags import MAX_CAPTION_BYTES, make_tags, read_caption, read_label
from ..exceptions import InvalidDocument
from .local_images import SUFFIXES, LocalImages
from .rejects import checked_then_used

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class _Image:
    """An image file."""

    path: Path
    label: str
    """Its class, the name of its folder; '' outside a class folder."""


def folder_documents(folder: str | os.PathLike[str], *, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of the images in a folder and its subfolders, in the order of their names.

    For `image-to-image`, the label is the name of the subfolder, or of the topmost one in a deeper tree. For
    `text-to-image`, the caption of x.jpg is in x.txt beside it, in UTF-8. Hidden files and folders are skipped.

    Args:
        folder: with the images.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Pairs (see `documents.pairs`), or images as blobs with the tag `finetuner_label`.

    Raises:
        InvalidDocument: missing labels or captions, and files that are not images, all named in one error at this
            call. An image with a damaged later part is named when it is read.
        InvalidInput: a folder without images.
    """
    root = Path(folder)
    return _documents(lambda: _walk(root), f"folder {os.fspath(folder)!r}", task, on_error)


def image_documents(paths: Sequence[str | os.PathLike[str]], *, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of a list of image files.

    Args:
        paths: of the images. An image's label is the name of its folder; its caption is found as in
            `folder_documents`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Documents as in `folder_documents`.

    Raises:
        InvalidDocument, InvalidInput: as in `folder_documents`.
    """

    def images() -> Iterator[_Image]:
        return (_Image(Path(path), Path(path).absolute().parent.name) for path in paths)

    return _documents(images, f"list of {len(paths)} images", task, on_error)


def _documents(images: Callable[[], Iterable[_Image]], source: str, task: str, on_error: str) -> Iterator[Document]:
    reader = LocalImages()

    def check(image: _Image) -> tuple[Document, ...]:
        _caption_or_label(image, task)
        reader.check(str(image.path))
        return ()

    def use(image: _Image) -> list[Document]:
        from docarray import Document

        text, blob = _caption_or_label(image, task), reader.read(str(image.path))
        if task == "text-to-image":
            return [make_pair(text, blob)]
        return [Document(blob=blob, modality="image", tags=make_tags(text))]

    return checked_then_used(
        lambda: ((str(image.path), image) for image in images()), check, use, source=source, on_error=on_error
    )


def _walk(root: Path) -> Iterator[_Image]:
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = Path(folder).relative_to(root).parts
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield _Image(Path(folder, name), inside[0] if inside else "")


def _caption_or_label(image: _Image, task: str) -> str:
    """Return the caption of an image, or its label for image-to-image."""
    if task == "text-to-image":
        return _caption(image.path.with_suffix(".txt"))
    label = read_label(image.label)
    if not label:
        raise InvalidDocument(
            f"image must lie in a subfolder, whose name is its label. Got {image.label!r}. Move it into one."
        )
    return label


def _caption(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CAPTION_BYTES * 2)  # a longer file is refused all the same
        return read_caption(content.decode("utf-8-sig"))
    except OSError as error:
        raise InvalidDocument(
            f"image must have its caption beside it, in {path.name!r}. Got none ({error.strerror}). Add the file. "
            f"(Folders of classes are for image-to-image.)"
        ) from error
    except InvalidDocument as error:
        raise InvalidDocument(f"{error} (In {path.name!r}.)") from error
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"caption must be UTF-8. Got other bytes in {path.name!r}. Convert it.") from error
