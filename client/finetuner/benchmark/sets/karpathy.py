"""Reads Flickr8k, Flickr30k and COCO captions in the JSON layout of Karpathy's splits.

`dataset_flickr8k.json`, `dataset_flickr30k.json` and `dataset_coco.json` come from
cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip. Each is {'images': [{'filename', 'split',
'sentences': [{'raw', 'tokens', 'sentid', 'imgid'}], 'sentids', 'imgid'}], 'dataset'}. COCO's images also have
'filepath' ('train2014' or 'val2014') and 'cocoid'. Splits are 'train', 'val' and 'test'. COCO's 'restval' belongs to
the training split, by custom (Karpathy and Fei-Fei, 2015). Source of the layout: loaders in public repositories and
the data card of laicsiifes/coco-captions-pt-br, November 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import InvalidDocument, InvalidInput
from ...sources.json_file import read_json
from ...sources.rejects import checked_then_used
from .captioned_images import CaptionedImage, CaptionedImages, images_folder, items_of

if TYPE_CHECKING:
    from docarray import Document

KEPT = frozenset({"images", "filename", "filepath", "split", "sentences", "raw"})
TRAINED_ON = ("train", "restval")


def karpathy_documents(
    folder: Path, split: str, on_error: str, *, file: str, folders: tuple[str, ...]
) -> Iterator[Document]:
    """Return the pairs of a split, with all captions of an image in a row.

    Args:
        folder: holds the JSON file, and the images in one of `folders`, below their 'filepath' if they have one.
        split: 'train', 'val' or 'test'.
        on_error: 'raise' lists all bad entries in one error, at this call. 'skip' leaves them out with a warning.
        file: name of the JSON file.
        folders: possible names of the folder of images. The first that exists is used.

    Raises:
        InvalidInput: no JSON file, no folder of images, or no image in the split.
        InvalidDocument: a caption without its image, a name that leads out of the folder, or a file that is not an
            image.
    """
    content = read_json(folder / file, KEPT)
    if not isinstance(content, dict) or "images" not in content:
        raise InvalidInput(f"{file} must be an object with 'images'. Got {type(content).__name__}. Fetch it again.")
    images = CaptionedImages(images_folder(folder, folders))
    wanted = TRAINED_ON if split == "train" else (split,)

    def entries() -> Iterator[tuple[str, CaptionedImage | InvalidDocument]]:
        for position, image in items_of(content["images"], f"'images' of {file}"):
            if isinstance(image, InvalidDocument) or image.get("split") in wanted:
                yield f"images[{position}]", image if isinstance(image, InvalidDocument) else _image(image)

    source = f"{file}, split {split!r},"
    return checked_then_used(entries, images.check, images.pairs, source=source, on_error=on_error)


def _image(image: dict[str, Any]) -> CaptionedImage | InvalidDocument:
    name, below, sentences = image.get("filename"), image.get("filepath", ""), image.get("sentences")
    if not isinstance(name, str) or not name or not isinstance(below, str):
        return InvalidDocument(f"image must have a 'filename'. Got {name!r:.60}. Correct it.")
    captions = [one.get("raw") for one in sentences if isinstance(one, dict)] if isinstance(sentences, list) else []
    texts = tuple(caption.strip() for caption in captions if isinstance(caption, str) and caption.strip())
    if not texts or len(texts) != len(sentences or ()):
        return InvalidDocument(f"image {name!r:.80} must have 'sentences' with a 'raw' caption each. Got another list.")
    return CaptionedImage(f"{below}/{name}" if below else name, texts)
