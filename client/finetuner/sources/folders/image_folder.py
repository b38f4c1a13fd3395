"""Converts image files to documents: one folder per class, or a caption file beside each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...documents.image_files import SUFFIXES
from ...documents.pairs import make_pair
from ...documents.tags import MAX_CAPTION_BYTES, make_tags, read_caption, read_label
from ...exceptions import InvalidDocument
from ..local_images import LocalImages, is_image_file
from ..rejects import Entries, PassedOver, checked_then_used
from ..samples import sampled
from ..tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class _Image:
    """An image file."""

    path: Path
    label: str
    """Its class, the name of its folder; '' outside a class folder."""

    @property
    def caption(self) -> Path:
        """The file of its caption. The end of a name such as `dress.v2` is no ending of an image."""
        known = self.path.suffix.lower() in SUFFIXES
        return self.path.with_suffix(".txt") if known else self.path.with_name(f"{self.path.name}.txt")


def folder_documents(
    folder: str | os.PathLike[str], options: CSVOptions | None = None, *, task: str, on_error: str
) -> Iterator[Document]:
    """Return the documents of the images in a folder and its subfolders, in the order of their names.

    For `image-to-image`, the label is the name of the subfolder, or of the topmost one in a deeper tree. For
    `text-to-image`, the caption of x.jpg is in x.txt beside it, in UTF-8. Links to folders are followed. A file is an
    image by its ending or by its first bytes. A warning counts all other entries, with the reasons; hidden files and
    folders are among them.

    Args:
        folder: with the images.
        options: `size` and `sampling_rate`, of images.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Pairs (see `documents.pairs`), or images as blobs with the tag `finetuner_label`.

    Raises:
        InvalidDocument: missing labels or captions, files that are not images, broken links and unreadable folders, all
            named in one error at this call. An image with a damaged later part is named when it is read.
        InvalidInput: a folder without images.
    """
    root = Path(folder)
    return _documents(lambda: _walk(root), f"folder {os.fspath(folder)!r}", options, task, on_error)


def image_documents(
    paths: Sequence[str | os.PathLike[str]], options: CSVOptions | None = None, *, task: str, on_error: str
) -> Iterator[Document]:
    """Return the documents of a list of image files.

    Args:
        paths: of the images, and of .txt files beside them. An image's label is the name of its folder; its caption is
            found as in `folder_documents`.
        options: as in `folder_documents`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Documents as in `folder_documents`.

    Raises:
        InvalidDocument, InvalidInput: as in `folder_documents`.
    """

    def entries() -> Entries[_Image]:
        return _files([(Path(path), Path(path).absolute().parent.name) for path in paths])

    return _documents(entries, f"list of {len(paths)} files", options, task, on_error)


def _documents(
    entries: Callable[[], Entries[_Image]], source: str, options: CSVOptions | None, task: str, on_error: str
) -> Iterator[Document]:
    reader, options = LocalImages(), options or CSVOptions()

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
        lambda: sampled(entries(), options.sampling_rate),
        check,
        use,
        source=source,
        on_error=on_error,
        limit=options.size,
    )


def _walk(root: Path) -> Iterator[tuple[str, _Image | InvalidDocument | PassedOver]]:
    """Yield the entries of a folder tree. A folder that links lead to twice is read once for each label."""
    waiting: list[tuple[Path, str, tuple[object, ...]]] = [(root, "", ())]
    read: set[tuple[str, object]] = set()
    while waiting:
        folder, label, above = waiting.pop()
        try:
            status = folder.stat()
            paths = sorted(folder.iterdir())
        except OSError as error:
            yield str(folder), InvalidDocument(f"folder must be readable. Got an error: {error.strerror}. Check it.")
            continue
        key = (status.st_dev, status.st_ino)
        if key in above or (label, key) in read:
            yield str(folder), PassedOver("link to a folder that is read already")
            continue
        read.add((label, key))
        files: list[Path] = []
        folders: list[Path] = []
        for path in paths:
            if path.name.startswith("."):
                yield str(path), PassedOver("hidden")
            else:
                (folders if os.path.isdir(path) else files).append(path)  # noqa: PTH112 (False, never raises)
        yield from _files([(path, label) for path in files])
        waiting += [(path, label or path.name, (*above, key)) for path in reversed(folders)]


def _files(files: Sequence[tuple[Path, str]]) -> Iterator[tuple[str, _Image | InvalidDocument | PassedOver]]:
    """Yield the entries of several files, given with their labels. A caption is no entry of its own."""
    entries = [(path, _file(path, label)) for path, label in files]
    captions = {entry.caption for _, entry in entries if isinstance(entry, _Image)}
    yield from ((str(path), entry) for path, entry in entries if path not in captions)


def _file(path: Path, label: str) -> _Image | InvalidDocument | PassedOver:
    if not os.path.isfile(path):  # noqa: PTH113 (False, never raises)
        if path.is_symlink():
            return InvalidDocument("link must lead to a file or folder. Got a broken link. Mend or remove it.")
        return PassedOver("neither file nor folder")
    try:
        if path.suffix.lower() in SUFFIXES or is_image_file(path):
            return _Image(path, label)
    except OSError as error:
        return InvalidDocument(f"file must be readable. Got an error: {error.strerror}. Check it.")
    return PassedOver("not an image")


def _caption_or_label(image: _Image, task: str) -> str:
    """Return the caption of an image, or its label for image-to-image."""
    if task == "text-to-image":
        return _caption(image.caption)
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
