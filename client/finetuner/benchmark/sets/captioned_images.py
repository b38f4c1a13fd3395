"""Reads captioned images of a set from one folder, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...contract.wire import LABEL_TAG
from ...documents.pairs import make_pair
from ...exceptions import InvalidDocument, InvalidInput
from ...sources.local_images import LocalImages

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions."""

    name: str
    """POSIX path of its file, relative to the folder of images."""
    captions: tuple[str, ...]
    """At least one."""
    label: str = ""
    """Images with the same label are relevant to each other's captions. '' if each image is its own class."""


def images_folder(folder: Path, names: Iterable[str]) -> Path:
    """Return the first of several folders that exists.

    Args:
        folder: of the set.
        names: of folders in it.

    Raises:
        InvalidInput: none exists.
    """
    candidates = [folder / name for name in names]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    folders = " or ".join(repr(str(candidate)) for candidate in candidates)
    raise InvalidInput(f"images must be in {folders}. Got no such folder. Unpack them there.")


class CaptionedImages:
    """Makes pairs of captioned images, in memory that does not grow with their number.

    Args:
        root: folder of the images. A name that leads out of it is refused.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reader = LocalImages()

    def check(self, image: CaptionedImage) -> tuple[Document, ...]:
        """Check an image by its first bytes. Return no document.

        Raises:
            InvalidDocument: a name that leads out of the folder, no file, or a file that is not an image.
        """
        path = self._path(image.name)
        if not os.path.isfile(path):  # noqa: PTH113 (False, never raises)
            raise InvalidDocument(
                f"caption {image.captions[0]!r:.80} must have its image. Got no file {path!r}. Copy it there."
            )
        self._reader.check(path)
        return ()

    def pairs(self, image: CaptionedImage) -> list[Document]:
        """Return one pair for each caption.

        Raises:
            InvalidDocument: see `check`, or an image that cannot be decoded.
        """
        self.check(image)
        blob = self._reader.read(self._path(image.name))
        tags = {LABEL_TAG: image.label} if image.label else {}
        return [make_pair(caption, blob, tags) for caption in image.captions]

    def _path(self, name: str) -> str:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise InvalidDocument(f"image must be below {str(self._root)!r}. Got {name!r:.120}. Correct the file.")
        return str(self._root / pure)


def items_of(content: Any, what: str) -> Iterator[tuple[int, dict[str, Any] | InvalidDocument]]:
    """Yield the objects of a JSON list with their positions, and an error for each other entry.

    Args:
        content: the list.
        what: its description, for the message.

    Raises:
        InvalidInput: `content` is not a list.
    """
    if not isinstance(content, list):
        raise InvalidInput(f"{what} must be a list of objects. Got {type(content).__name__}. Check the file.")
    for position, item in enumerate(content):
        if isinstance(item, dict):
            yield position, item
        else:
            yield position, InvalidDocument(f"entry must be an object. Got {item!r:.60}. Correct it.")
