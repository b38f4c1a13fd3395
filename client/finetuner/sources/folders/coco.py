"""Reads the JSON files of COCO: captions of images, or instances, whose categories label images.

`captions_*.json` is {'images': [{'id', 'file_name'}], 'annotations': [{'id', 'image_id', 'caption'}]}.
`instances_*.json` has 'category_id' in place of 'caption', and 'categories': [{'id', 'name'}]. Source of the layout:
cocodataset.org/#format-data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...documents.tags import read_caption
from ...exceptions import InvalidDocument, InvalidInput
from ..json_file import read_json
from ..links.options import LinkOptions
from ..local_images import LocalImages
from ..rejects import Entries, PassedOver, checked_then_used
from ..samples import Sample, SampleReader, sampled, with_named_image
from ..tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

KEPT = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "image_id", "caption", "category_id", "name"}
)
CONTENTS = {"text-to-image": "caption", "image-to-image": "category_id"}

Id = int | str


def coco_documents(
    paths: Sequence[str | os.PathLike[str]],
    options: CSVOptions | None = None,
    *,
    task: str,
    on_error: str,
    inside: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of COCO's JSON files, in the order of their images.

    A file is read into memory, with the keys KEPT alone, and has at most `json_file.MAX_BYTES`. A 'file_name' is
    relative to the first of these folders that has the first image: the file's own, `images` in it, and beside it the
    folder that the file is named after (`train2017` of `captions_train2017.json`), `images`, and both in a row.

    Args:
        paths: of the files, in reading order.
        options: `size` and `sampling_rate`, over all files, in images, and `convert_to_blob`.
        task: 'text-to-image' reads captions, 'image-to-image' instances.
        on_error: 'raise' or 'skip'.
        inside: folder that images may not leave; None for any.

    Returns:
        For `text-to-image`, a pair for each caption of an image. For `image-to-image`, images whose instances are all
        of one category, with its name as label. Other images are passed over.

    Raises:
        InvalidInput: not such a file, or no usable images.
        InvalidDocument: invalid images and annotations, all named by their ids in one error at this call. An image with
            a damaged later part is found and named only when it is read.
    """
    options = options or CSVOptions()
    names = [os.fspath(path) for path in paths]
    files = [_CocoFile.of(path, task, inside, options.links) for path in names]

    def entries() -> Entries[Sample]:
        found = (entry for file in files for entry in file.entries(named=len(files) > 1))
        return sampled(found, options.sampling_rate)

    source = repr(names[0]) if len(names) == 1 else "COCO data"
    reader = SampleReader(task, options.convert_to_blob)
    return checked_then_used(
        entries,
        reader.check,
        reader.documents,
        source=source,
        on_error=on_error,
        limit=options.size,
        start=reader.start,
    )


@dataclass(frozen=True)
class _CocoFile:
    """The content of one file, checked but for its captions and images."""

    path: str
    content: str
    """Key of the annotations that is read, a value of CONTENTS."""
    images: LocalImages
    files: dict[Id, str]
    """Id of each image -> its 'file_name', in order."""
    values: dict[Id, list[str]]
    """Id of an image -> its captions, or the names of its categories."""
    errors: list[tuple[str, InvalidDocument]] = field(default_factory=list)
    """Positions of invalid images and annotations, with their errors."""

    @classmethod
    def of(cls, path: str, task: str, inside: Path | None, links: LinkOptions) -> _CocoFile:
        content = read_json(Path(path), KEPT)
        if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
            got = f"{', '.join(content) or 'neither'}" if isinstance(content, dict) else type(content).__name__
            raise InvalidInput(
                f"JSON file must be COCO's, an object with 'images' and 'annotations'. Got {got} in {path!r}. "
                f"Convert it, for example to jsonl with one object a line."
            )
        key = CONTENTS[task]
        annotations = _objects(content, "annotations", path)
        if not any(isinstance(each, dict) and key in each for each in annotations):
            kind = "captions" if key == "caption" else "instances"
            raise InvalidInput(
                f"COCO's file for {task} must have {kind}, annotations with {key!r}. Got none in {path!r}. "
                f"Pass the file of {kind}."
            )
        errors: list[tuple[str, InvalidDocument]] = []
        files = _named(_objects(content, "images", path), "image", "file_name", errors)
        categories: dict[Id, str] = {}
        if key == "category_id":
            categories = _named(_objects(content, "categories", path), "category", "name", errors)
        images = LocalImages(_images_folder(path, next(iter(files.values()), "")), inside, links)
        file = cls(path, key, images, files, {}, errors)
        for position, each in enumerate(annotations):
            file._add(position, each, categories)
        return file

    def _add(self, position: int, annotation: object, categories: Mapping[Id, str]) -> None:
        """Keep the value of one annotation, or its error."""
        identity = annotation.get("id") if isinstance(annotation, dict) else None
        where = f"annotation at position {position}" if identity is None else f"annotation {identity!s:.40}"
        try:
            image, value = self._read(annotation, categories)
            self.values.setdefault(image, []).append(value)
        except InvalidDocument as error:
            self.errors.append((where, error))

    def _read(self, annotation: object, categories: Mapping[Id, str]) -> tuple[Id, str]:
        """Return the id of an annotation's image, and its caption or the name of its category."""
        if not isinstance(annotation, dict):
            raise InvalidDocument(f"annotation must be an object. Got {annotation!r:.60}. Correct it.")
        image, value = annotation.get("image_id"), annotation.get(self.content)
        if not isinstance(image, Id) or image not in self.files:
            raise InvalidDocument(
                f"annotation must have the 'image_id' of a valid image. Got {image!r:.60}. Correct it."
            )
        if self.content == "caption":
            return image, read_caption(value)
        if not isinstance(value, Id) or value not in categories:
            raise InvalidDocument(
                f"annotation must have the 'category_id' of a category. Got {value!r:.60}. Correct it."
            )
        return image, categories[value]

    def entries(self, *, named: bool) -> Iterator[tuple[str, Sample | InvalidDocument | PassedOver]]:
        """Yield the errors, then the images; with the file's path before each position if `named`."""
        prefix = f"{self.path} " if named else ""
        yield from ((f"{prefix}{where}", error) for where, error in self.errors)
        for image, file_name in self.files.items():
            yield f"{prefix}image {image!s:.40}", self._sample(file_name, self.values.get(image, []))

    def _sample(self, file_name: str, values: list[str]) -> Sample | PassedOver:
        if not values:
            return PassedOver("image without annotations")
        sample: dict[str, Any] = {"image": file_name}
        if self.content == "caption":
            sample["text"] = values
        elif len(set(values)) > 1:
            return PassedOver("image of several categories")
        else:
            sample["label"] = values[0]
        return with_named_image(sample, self.images)


def _objects(content: Mapping[str, object], key: str, path: str) -> list[object]:
    found = content.get(key)
    if not isinstance(found, list):
        raise InvalidInput(
            f"{key!r} of COCO's file must be a list. Got {type(found).__name__} in {path!r}. Check the file."
        )
    return found


def _named(objects: list[object], what: str, key: str, errors: list[tuple[str, InvalidDocument]]) -> dict[Id, str]:
    """Return id -> the value of `key`, and add the errors of the other objects."""
    found: dict[Id, str] = {}
    for position, each in enumerate(objects):
        identity = each.get("id") if isinstance(each, dict) else None
        name = each.get(key) if isinstance(each, dict) else None
        if not isinstance(identity, Id):
            where, error = f"{what} at position {position}", f"must be an object with an 'id'. Got {each!r:.60}."
        elif identity in found:
            where, error = f"{what} {identity!s:.40}", "must have an 'id' of its own. Got one that is used already."
        elif not isinstance(name, str) or not name.strip():
            where, error = f"{what} {identity!s:.40}", f"must have a {key!r}. Got {name!r:.60}."
        else:
            found[identity] = name
            continue
        errors.append((where, InvalidDocument(f"{what} {error} Correct the file.")))
    return found


def _images_folder(path: str, first: str) -> Path:
    """Return the first possible folder of the images that has the first of them; the file's own without it."""
    own = Path(path).absolute().parent
    split = Path(path).stem.rpartition("_")[2]
    beside = own.parent
    for folder in (own, own / "images", beside / split, beside / "images", beside / "images" / split, own / split):
        if first and len(first) < 4096 and "\0" not in first and os.path.isfile(folder / first):  # noqa: PTH113
            return folder
    return own
