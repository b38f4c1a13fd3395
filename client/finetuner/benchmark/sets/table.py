"""The table of benchmark sets: one row per set, with its reader, task and splits."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...exceptions import InvalidInput
from .fashion12k import fashion12k_documents
from .fashion_captioning import fashion_captioning_documents
from .karpathy import karpathy_documents
from .ukbench import ukbench_documents

if TYPE_CHECKING:
    from docarray import Document

CLIP_RECIPE = {"loss": "CLIPLoss", "optimizer": "AdamW", "scheduler": "cosine"}
IMAGE_RECIPE = {"loss": "TripletMarginLoss"}


@dataclass(frozen=True)
class BenchmarkSet:
    """One public benchmark set."""

    name: str
    """Name for the command line."""
    title: str
    """Name for reports."""
    documents: Callable[[Path, str, str], Iterator[Document]]
    """(folder, split, on_error) -> pairs or labelled images, read lazily."""
    images: Mapping[str, int]
    """Split to score on -> number of published images. 0 if unknown."""
    task: str = "text-to-image"
    """Task of its models: 'text-to-image' or 'image-to-image'."""
    limit: int = 20
    """k of the nine metrics."""
    training: Mapping[str, object] = field(default_factory=lambda: CLIP_RECIPE)
    """Default arguments of `fit` besides model and data."""


def _karpathy(name: str, title: str, images: Mapping[str, int], *folders: str) -> BenchmarkSet:
    return BenchmarkSet(name, title, partial(karpathy_documents, file=f"dataset_{name}.json", folders=folders), images)


SETS = (
    _karpathy("flickr8k", "Flickr8k", {"val": 1_000, "test": 1_000}, "Flicker8k_Dataset", "Images", "images"),
    _karpathy(
        "flickr30k", "Flickr30k", {"val": 1_014, "test": 1_000}, "flickr30k-images", "flickr30k_images", "images"
    ),
    _karpathy("coco", "COCO", {"val": 5_000, "test": 5_000}, "."),
    BenchmarkSet("fashion12k", "German Fashion12k", fashion12k_documents, {"test": 2_001}),
    BenchmarkSet("fashion-captioning", "Fashion captioning", fashion_captioning_documents, {"val": 0, "test": 0}),
    BenchmarkSet(
        "ukbench",
        "UKBench",
        ukbench_documents,
        {"test": 1_000},
        task="image-to-image",
        limit=3,
        training=IMAGE_RECIPE,
    ),
)


def find_set(name: str) -> BenchmarkSet:
    """Return the set with a name.

    Raises:
        InvalidInput: unknown name. The message has the nearest names.
    """
    for row in SETS:
        if row.name == name:
            return row
    names = [row.name for row in SETS]
    nearest = ", ".join(difflib.get_close_matches(name, names, n=2, cutoff=0.3)) or "none"
    raise InvalidInput(f"set must be one of {', '.join(names)}. Got {name!r}. Nearest: {nearest}.")
