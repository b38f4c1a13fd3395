"""Reads the fashion captioning dataset (FACAD; Yang et al., ECCV 2020) from its JSON list of items.

`meta_all_129927.json` is a list of {'id', 'images': [{'color', '0': URL, '1': URL, ...}], 'title', 'description',
'detail_info', 'categoryid', 'category', 'attr', 'attrid'}. Its makers publish URLs, not images, and advise to drop
everything after '.jpeg' in them. They add: "sometimes the description is no longer available, we can retrieve it from
the 'detail_info' part". Source: the README of xuewyang/Fashion_Captioning and its issue 2, November 2026.

The file has no splits, and the paper's splits belong to an earlier, smaller version. Here the SHA-256 of an item's id
decides, 80 : 10 : 10 as in the paper. Compare figures only with other figures of this split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...exceptions import InvalidDocument
from ...sources.json_file import read_json
from ...sources.rejects import checked_then_used
from .captioned_images import CaptionedImage, CaptionedImages, images_folder, items_of

if TYPE_CHECKING:
    from docarray import Document

FILE = "meta_all_129927.json"
FOLDER = "images"
FIRST = "0"  # key of a colour's first image. The others show the same garment from other sides
KEPT = frozenset({"id", "images", "color", FIRST, "description", "detail_info"})


def fashion_captioning_documents(folder: Path, split: str, on_error: str) -> Iterator[Document]:
    """Return the pairs of a split: the first image of each colour with its item's description, labelled by item.

    Args:
        folder: holds FILE and `images/`. An image's name is the last part of its URL, such as
            `58d1a13f-b6b6-4e68-b2ff-3a3af47c422e.jpeg`.
        split: 'train', 'val' or 'test'.
        on_error: 'raise' lists all bad entries in one error, at this call. 'skip' leaves them out with a warning.
            Use 'skip' if the shop has removed images.

    Raises:
        InvalidInput: no JSON file, no folder of images, or no item in the split.
        InvalidDocument: an item without a caption, a caption without its image, or a file that is not an image.
    """
    content = read_json(folder / FILE, KEPT)
    images = CaptionedImages(images_folder(folder, [FOLDER]))

    def entries() -> Iterator[tuple[str, CaptionedImage | InvalidDocument]]:
        for position, item in items_of(content, FILE):
            if isinstance(item, InvalidDocument):
                yield f"entry {position}", item
            elif split_of(item.get("id")) == split:
                for number, image in enumerate(_images(item)):
                    yield f"item {item.get('id')!r:.40}, colour {number}", image

    source = f"{FILE}, split {split!r},"
    return checked_then_used(entries, images.check, images.pairs, source=source, on_error=on_error)


def split_of(item_id: object) -> str:
    """Return the split of an item: one tenth 'test', one tenth 'val', the rest 'train'."""
    number = int.from_bytes(hashlib.sha256(str(item_id).encode()).digest()[:8], "big") % 10
    return {0: "test", 1: "val"}.get(number, "train")


def _images(item: dict[str, Any]) -> Iterator[CaptionedImage | InvalidDocument]:
    caption, colours = _caption(item), item.get("images")
    if not caption:
        yield InvalidDocument("item must have a 'description' or a 'detail_info' with one. Got neither. Leave it out.")
        return
    if not isinstance(colours, list) or not colours:
        colours = [None]
    for colour in colours:
        address = colour.get(FIRST) if isinstance(colour, dict) else None
        name = _file_name(address) if isinstance(address, str) else ""
        if name:
            yield CaptionedImage(name, (caption,), str(item.get("id")))
        else:
            yield InvalidDocument(f"caption {caption!r:.80} must have its image. Got {address!r:.60} as its URL.")


def _caption(item: dict[str, Any]) -> str:
    """Return the description, or the first line of the details that is not a heading such as 'DETAILS & CARE'."""
    description, details = item.get("description"), item.get("detail_info")
    if isinstance(description, str) and description.strip():
        return description.strip()
    lines = details.splitlines() if isinstance(details, str) else []
    return next((line.strip() for line in lines if line.strip() and not line.isupper()), "")


def _file_name(address: str) -> str:
    try:
        return PurePosixPath(urlsplit(address).path).name
    except ValueError:  # not a URL
        return ""
