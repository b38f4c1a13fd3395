"""Finds the kind of a user's file by the ending of its name."""

from __future__ import annotations

import os
from pathlib import Path

from ..contract import file_endings
from ..documents.image_files import SUFFIXES
from ..exceptions import InvalidInput
from .hugging_face.saved import is_saved
from .local_images import is_image_file

KNOWN_SUFFIXES = (*file_endings.DATA, *sorted(SUFFIXES))


def of_one_kind(paths: list[str]) -> tuple[str, list[str]]:
    """Return the kind of all paths, and the paths. A text beside images, which `folder/*` matches, is a caption."""
    kinds = {path: kind_of(path) for path in paths}
    if "image" in kinds.values():
        kinds = {path: "image" if path.lower().endswith(".txt") else kind for path, kind in kinds.items()}
    examples = {kind: path for path, kind in kinds.items()}
    if len(examples) != 1:
        shown = ", ".join(f"{kind} ({path!r:.60})" for kind, path in sorted(examples.items()))
        raise InvalidInput(f"data must be files of one kind. Got {shown or 'none'}. Pass them separately.")
    return next(iter(examples)), paths


def _begins_like_image(path: str) -> bool:
    try:
        return os.path.isfile(path) and is_image_file(path)  # noqa: PTH113 (not a pipe, which reading would empty)
    except OSError:  # reported by the reader of its kind
        return False


def kind_of(path: str) -> str:
    """Return the kind of a file or folder, a word for messages.

    Raises:
        InvalidInput: another ending.
    """
    if Path(path).is_dir():
        return "saved" if is_saved(path) else "folder"
    lower, suffix = path.lower(), Path(path).suffix.lower()
    if lower.endswith(file_endings.TAR):
        return "tar"
    if suffix == ".parquet":
        return "parquet"
    if suffix in file_endings.JSONL:
        return "jsonl"
    if suffix == ".json":
        return "COCO"
    if suffix == ".zip":
        return "zip"
    if suffix in file_endings.CSV:
        return "CSV"
    if suffix in SUFFIXES or _begins_like_image(path):
        return "image"
    if not suffix:
        return "CSV"
    raise InvalidInput(
        f"data file must end in {', '.join(KNOWN_SUFFIXES)}. Got {path!r:.120}. Rename it, or open it as text for CSV."
    )
