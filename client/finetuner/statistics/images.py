"""Statistics of images: sizes, exact and near duplicates, the undecodable, and the oddest."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..documents.image_files import open_image
from ..documents.images import decode
from ..exceptions import InvalidDocument
from .looks import Look, look_at, near_groups
from .spread import Found, Oddity, Spread, factors, oddest

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_LOOKED_AT = 20_000
DECODED_SIDE = 64
FLAT = 2.0  # contrast of an image of one colour, saved as JPEG, or below it
SMALL = 64  # pixels; models scale images to 224
LONG = 4.0  # longer side by shorter side; the middle that models see is a quarter
CONTRAST_WEIGHT = 0.5  # a contrast of a quarter of the median is as odd as half a side
SHOWN_GROUPS = 10
SHOWN = 80  # characters of a caption


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images of a data set."""

    count: int
    """Images."""
    distinct: int
    """Different files."""
    looked_at: int
    """Different files that were decoded: the first ones. What follows is about them."""
    undecodable: int
    """Files that cannot be decoded."""
    first_undecodable: str
    """'document 7: reason' of the first of them, '' without one."""
    shorter_side: Spread | None
    """In pixels; None if no image could be decoded."""
    longer_side: Spread | None
    """In pixels."""
    aspect: Spread | None
    """Width divided by height."""
    flat: Found
    """Images of one colour."""
    small: Found
    """Images whose shorter side has less than SMALL pixels."""
    long: Found
    """Images that are more than LONG times as long as wide, or the other way."""
    near_groups: list[list[int]]
    """Positions of the documents of near duplicates, the largest groups first, ten at most; files that are equal
    count once."""
    near_images: int
    """Images in all groups of near duplicates."""
    near_pairs: int
    """Pairs of images of one group."""
    oddest: list[Oddity]
    """Images whose side, aspect or contrast is at least twice or at most half the median, ten at most."""


class Images:
    """Collects images. It keeps a hash of each file, and the look of the first MOST_LOOKED_AT files.

    Args:
        most: files to look at.
    """

    def __init__(self, most: int = MOST_LOOKED_AT) -> None:
        self._most = most
        self._keys: set[bytes] = set()
        self._count = 0
        self._undecodable = 0
        self._first_undecodable = ""
        self.looks: list[Look] = []
        """Looks of the files that could be decoded."""
        self.look_keys: list[bytes] = []
        """Hash of the file of each look."""
        self.documents: list[int] = []
        """Position of the document of each look."""
        self._captions: list[str] = []

    def add(self, document: int, blob: bytes, caption: str = "") -> bytes:
        """Add an image and return the hash of its file.

        Args:
            document: position of its document.
            blob: the image's file.
            caption: to show beside an odd image.
        """
        self._count += 1
        key = hashlib.blake2b(blob, digest_size=16).digest()
        if key in self._keys:
            return key
        self._keys.add(key)
        if len(self._keys) <= self._most:
            try:
                image = decode(blob, DECODED_SIDE)
            except InvalidDocument as error:
                self._refuse(document, error)
                return key
            self.looks.append(look_at(image, _size(blob, image)))
            self.look_keys.append(key)
            self.documents.append(document)
            self._captions.append(caption.strip()[:SHOWN])
        return key

    def add_broken(self, document: int, error: InvalidDocument) -> None:
        """Add an image without a file."""
        self._count += 1
        self._refuse(document, error)

    def _refuse(self, document: int, error: InvalidDocument) -> None:
        self._undecodable += 1
        self._first_undecodable = self._first_undecodable or f"document {document}: {error}"

    @property
    def keys(self) -> set[bytes]:
        """Hashes of the different files."""
        return self._keys

    def statistics(self) -> ImageStatistics | None:
        """Return the statistics of all images so far, None without any."""
        if not self._count:
            return None
        groups = sorted(near_groups(self.looks), key=len, reverse=True)
        each = list(zip(self.documents, self.looks, strict=True))
        shorter = [float(look.shorter) for look in self.looks]
        return ImageStatistics(
            count=self._count,
            distinct=len(self._keys),
            looked_at=min(len(self._keys), self._most),
            undecodable=self._undecodable,
            first_undecodable=self._first_undecodable,
            shorter_side=Spread.of(shorter) if shorter else None,
            longer_side=Spread.of([float(max(look.width, look.height)) for look in self.looks]) if shorter else None,
            aspect=Spread.of([look.aspect for look in self.looks]) if shorter else None,
            flat=Found.of(at for at, look in each if look.contrast <= FLAT),
            small=Found.of(at for at, look in each if look.shorter < SMALL),
            long=Found.of(at for at, look in each if max(look.aspect, 1 / look.aspect) > LONG),
            near_groups=[[self.documents[at] for at in group] for group in groups[:SHOWN_GROUPS]],
            near_images=sum(map(len, groups)),
            near_pairs=sum(len(group) * (len(group) - 1) // 2 for group in groups),
            oddest=self._oddest() if shorter else [],
        )

    def _oddest(self) -> list[Oddity]:
        sides, aspects, contrasts = (
            np.array([getattr(look, name) for look in self.looks]) for name in ("shorter", "aspect", "contrast")
        )
        scores = np.stack(
            [factors(sides), factors(aspects, 1e-3), np.maximum(factors(contrasts) * CONTRAST_WEIGHT, 1)]
        )  # (3, images)
        found = []
        for at in oddest(scores.max(axis=0)):
            look = self.looks[at]
            reason = (
                f"{look.width} x {look.height} pixels, median of the shorter side {np.median(sides):g}",
                f"{look.width} x {look.height} pixels, median width by height {np.median(aspects):.2g}",
                f"contrast {look.contrast:.1f}, median {np.median(contrasts):.1f}",
            )[int(scores[:, at].argmax())]
            found.append(Oddity(self.documents[at], self._captions[at], reason))
        return found


def _size(blob: bytes, image: Image) -> tuple[int, int]:
    """Return the width and height of a file, turned as the image that was decoded from it, which may be smaller."""
    width, height = image.size
    with suppress(Exception), open_image(io.BytesIO(blob)) as opened:  # a file of damaged metadata does not open so
        width, height = opened.size
    return (height, width) if (width > height) != (image.width > image.height) else (width, height)
