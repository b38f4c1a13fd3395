"""Reads UKBench (Nister and Stewenius, CVPR 2006): four images of each object, with consecutive numbers.

archive.org/download/ukbench/ukbench.zip holds `full/ukbench00000.jpg` to `full/ukbench10199.jpg`. Images 4n to 4n + 3
show object n. UKBench has no official split. Here, as in the old tutorial, the first 1,000 images are for training and
the second 1,000 for the test. The first image of each object searches the others. Source of the names: the tutorial
and documents of public repositories, November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...contract.wire import LABEL_TAG
from ...exceptions import InvalidDocument, InvalidInput
from ...sources.local_images import LocalImages
from ...sources.rejects import checked_then_used

if TYPE_CHECKING:
    from docarray import Document

NAME = re.compile(r"ukbench(\d{5})\.jpg")
GROUP = 4
SPLITS = {"train": range(1_000), "test": range(1_000, 2_000)}
"""Split -> numbers of its images."""


def ukbench_documents(folder: Path, split: str, on_error: str) -> Iterator[Document]:
    """Return the images of a split in the order of their numbers, labelled by object.

    Args:
        folder: holds the images, directly or in its folder `full`.
        split: 'train' or 'test'.
        on_error: 'raise' lists all objects with bad images in one error, at this call. 'skip' leaves these objects
            out with a warning.

    Raises:
        InvalidInput: no image of the split.
        InvalidDocument: an object has fewer than four images, or a file that is not an image.
    """
    root = folder / "full" if (folder / "full").is_dir() else folder
    numbers = [int(match[1]) for path in root.glob("ukbench*.jpg") if (match := NAME.fullmatch(path.name))]
    groups = sorted({number // GROUP for number in numbers if number in SPLITS[split]})
    if not groups:
        first = root / f"ukbench{SPLITS[split].start:05d}.jpg"
        raise InvalidInput(f"split {split!r} must begin with {str(first)!r}. Got none of its images. Copy them there.")
    reader = LocalImages()

    def check(group: int) -> tuple[Document, ...]:
        for path in _paths(root, group):
            if not path.is_file():
                raise InvalidDocument(f"object must have {GROUP} images. Got no file {str(path)!r}. Copy it there.")
            reader.check(str(path))
        return ()

    def use(group: int) -> list[Document]:
        from docarray import Document

        check(group)
        return [
            Document(blob=reader.read(str(path)), modality="image", tags={LABEL_TAG: str(group)})
            for path in _paths(root, group)
        ]

    return checked_then_used(
        lambda: ((f"object {group}", group) for group in groups), check, use, source="UKBench", on_error=on_error
    )


def _paths(root: Path, group: int) -> list[Path]:
    return [root / f"ukbench{number:05d}.jpg" for number in range(GROUP * group, GROUP * group + GROUP)]
