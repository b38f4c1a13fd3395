"""Reads the images that a user's files name: finds them, decodes each once, and caches recent ones."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..documents.image_files import HEAD_BYTES, SUFFIXES, is_image, open_image
from ..documents.images import decode, read_data_uri
from ..documents.uris import read_local
from ..exceptions import InvalidDocument
from .links.downloads import Downloads
from .links.options import LinkOptions

WEB = ("http://", "https://")
KEPT_BYTES = 64 * 2**20
KEPT_PATHS = 2**16


def is_remote(item: str) -> bool:
    """Return whether an item is a web address or a data URI, which a server can read, too."""
    return item.startswith((*WEB, "data:"))


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like an image.

    Raises:
        OSError: an unreadable file.
    """
    with open(path, "rb") as file:
        return is_image(file.read(HEAD_BYTES))


class LocalImages:
    """Reads images by path, file://, http(s):// or data: URI, on the user's machine.

    The cache holds at most KEPT_BYTES of images and KEPT_PATHS paths. An image with several captions is decoded once,
    and the memory does not grow with the number of images.

    Args:
        folder: that relative paths start at, before the working directory; None for the working directory alone.
        inside: folder that no path may leave, also by a link; relative paths then start at `folder` alone. None for any
            path. Addresses are not affected.
        links: how addresses are downloaded; None tries once and keeps nothing.
    """

    def __init__(
        self, folder: Path | None = None, inside: Path | None = None, links: LinkOptions | None = None
    ) -> None:
        self._folder = folder
        self._downloads = Downloads(links or LinkOptions(retries=0, cache=None))
        self._inside = inside.resolve() if inside is not None else None
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._find = lru_cache(KEPT_PATHS)(self._find_file)
        self._check = lru_cache(KEPT_PATHS)(_check_header)

    def looks_like_image(self, item: str) -> bool:
        """Return whether an item is a URI, has the suffix of an image, or is an existing file."""
        return item.startswith("file://") or Path(item).suffix.lower() in SUFFIXES or self.holds(item)

    def holds(self, item: str) -> bool:
        """Return whether an item is a web address, a data URI or an existing file."""
        return is_remote(item) or self._find(item) is not None

    def path_of(self, item: str) -> str:
        """Return the path of an item's file.

        Raises:
            InvalidDocument: no such file.
        """
        path = self._find(item)
        if path is None:
            folders = [*([str(self._folder)] if self._folder else []), *([] if self._inside else [str(Path.cwd())])]
            raise InvalidDocument(
                f"image must be a file or a URI. Got {item[:200]!r}, which is not a file in "
                f"{' or '.join(dict.fromkeys(folders))}. Correct the path."
            )
        return path

    def check(self, item: str) -> None:
        """Check that a file exists and begins like an image, without reading the whole file.

        Raises:
            InvalidDocument: no such file, not an image, or an invalid data URI. A web address is not checked until
                it is read.
        """
        if item.startswith("data:"):
            self.read(item)
        elif not item.startswith(WEB):
            self._check(self.path_of(item))

    def read(self, item: str) -> bytes:
        """Return the bytes of an image, after decoding it as a check.

        Raises:
            InvalidDocument: no such file, an unreachable address, or not an image.
        """
        if item in self._kept:
            self._kept.move_to_end(item)
            return self._kept[item]
        if item.startswith("data:"):
            blob = read_data_uri(item)
        else:
            blob = self._downloads.read(item) if item.startswith(WEB) else read_local(self.path_of(item))
        decode(blob)
        self._kept[item] = blob
        self._kept_bytes += len(item) + len(blob)
        while self._kept_bytes > KEPT_BYTES:
            oldest, content = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest) + len(content)
        return blob

    def start(self, item: str) -> int:
        """Begin to download an image in the background.

        Returns:
            The number of images that are worth beginning before the first is read; 0 for one that is no address.
        """
        if not item.startswith(WEB) or item in self._kept:
            return 0
        self._downloads.start(item)
        return self._downloads.ahead

    def _find_file(self, item: str) -> str | None:
        if self._inside is not None:
            path = item
        else:
            path = url2pathname(urlsplit(item).path) if item.startswith("file://") else os.path.expanduser(item)  # noqa: PTH111
        candidates = ([self._folder / path] if self._folder else []) + ([] if self._inside else [Path(path)])
        for candidate in candidates:
            usual = len(path) < 4096 and "\0" not in path and os.path.isfile(candidate)  # noqa: PTH113 (never raises)
            if usual and (self._inside is None or candidate.resolve().is_relative_to(self._inside)):
                return str(candidate)
        return None


@dataclass(frozen=True)
class NamedImage:
    """An image that a file names, not read yet."""

    item: str
    """Path, file://, http(s):// or data: URI."""
    images: LocalImages
    """Its reader."""

    def check(self) -> None:
        """Check the image; see `LocalImages.check`."""
        self.images.check(self.item)

    def read(self) -> bytes:
        """Return the image's bytes; see `LocalImages.read`."""
        return self.images.read(self.item)

    @property
    def is_link(self) -> bool:
        """Whether the image is at an http(s) address."""
        return self.item.startswith(WEB)

    def start(self) -> int:
        """Begin to download the image; see `LocalImages.start`."""
        return self.images.start(self.item)

    def check_remote(self) -> None:
        """Check that a server can read the image.

        Raises:
            InvalidDocument: a local path.
        """
        if not is_remote(self.item):
            raise InvalidDocument(
                f"image must be an http(s) or data URI with convert_to_blob=False. Got {self.item[:80]!r}: a server "
                f"cannot read a local path. Leave convert_to_blob out."
            )


def _check_header(path: str) -> None:
    try:
        open_image(path).close()
    except Exception as error:  # the parsers of Pillow's plug-ins raise anything
        blob = read_local(path)
        if is_image(blob):  # its metadata may be damaged, and its pixels good
            decode(blob)
            return
        raise InvalidDocument(
            f"image must be a file such as JPEG or PNG. Got {path!r}, which does not begin like one. Replace it."
        ) from error
