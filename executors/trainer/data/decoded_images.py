"""Decodes images once, into a file of the cache that later runs reuse."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import PIL

from finetuner.documents.image_pixels import RULES
from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument
from finetuner.models.model_kinds import Model
from finetuner.models.pixels import cropped

from .image_cache import ImageCache

QUEUED_PER_THREAD = 4  # images, whose files are in memory
MAX_WARNINGS = 10  # broken images that are logged one by one
NOT_IN_PIXELS = ("mean", "std")

ABOUT = {"texts", "broken", "reason", "labels", "negatives", "scores"}  # fields of DecodedImages beside the pixels

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class SourceImage:
    """One image with one of its texts."""

    key: str
    """Equal for equal images."""
    text: str
    """Caption or label."""
    blob: bytes
    """The image's file."""
    label: str = ""
    """Of the caption; '' for none."""
    negatives: tuple[str, ...] = ()
    """Captions that do not fit the image."""
    score: float | None = None
    """Of image and text; None without. All images of a dataset have one, or none has."""


@dataclass(frozen=True)
class DecodedImages:
    """The images that can be decoded, in the order of their first occurrence."""

    pixels: np.ndarray
    """(images, 3, height, width) uint8, memory-mapped, read-only."""
    texts: list[list[str]]
    """Texts of each image, at least one, in order."""
    broken: int
    """Number of images that cannot be decoded."""
    reason: str
    """Error of the first of those, '' without any."""
    labels: list[list[str]]
    """Label of each text, '' for none. Empty if no text has one."""
    negatives: list[list[list[str]]]
    """Negatives that came with each text. Empty if none came."""
    scores: list[list[float]] | None
    """Score of each text, as `texts`; None without scores."""

    def __str__(self) -> str:
        found = f"{len(self.texts)} of {len(self.texts) + self.broken} images"
        return f"{found} ({self.reason.rstrip('.')})" if self.broken else found


def decode_images(
    images: Iterable[SourceImage], model: Model, cache: ImageCache, version: str, threads: int
) -> DecodedImages:
    """Decode every image, or reuse the pixels of an earlier run. Leave out broken images with a warning.

    Args:
        images: read one by one; not read if the cache has them.
        model: resizes and crops the images.
        cache: keeps the pixels.
        version: content hash of the dataset, which holds exactly these images.
        threads: number of decoding threads.

    Raises:
        FinetunerError: no space left on disk.
    """
    name = f"{version}-{_digest(model)}"
    found = cache.find(name)
    if found is not None and not found[1].keys() >= ABOUT:
        log.info("Images decoded by an earlier version, which kept less about them, are decoded again")
        found = None
    if found is None:
        started = time.perf_counter()
        decoded = _decode_all(images, model, cache, name, threads)
        log.info("Decoded %d images in %.1f s", len(decoded.texts), time.perf_counter() - started)
    else:
        pixels, about = found
        decoded = DecodedImages(pixels, **about)
        log.info("Found %d images decoded by an earlier run", len(decoded.texts))
    if decoded.broken:
        count = len(decoded.texts) + decoded.broken
        log.warning("%d of %d images cannot be decoded and are left out", decoded.broken, count)
    return decoded


def _decode_all(
    images: Iterable[SourceImage], model: Model, cache: ImageCache, name: str, threads: int
) -> DecodedImages:
    texts: dict[str, list[SourceImage]] = {}
    broken: dict[str, str] = {}
    with cache.new(name, (3, *_size(model))) as file:
        for image, pixels in _decoded(_distinct(images, texts), model, max(threads, 1)):
            try:
                file.add(pixels.result())
            except InvalidDocument as error:
                broken[image.key] = str(error)
                if len(broken) <= MAX_WARNINGS:
                    log.warning("Image of %r left out: %s", image.text[:60], error)
        good = [found for key, found in texts.items() if key not in broken]
        labels = [[one.label for one in found] for found in good]
        negatives = [[list(one.negatives) for one in found] for found in good]
        scores = [[one.score for one in found] for found in good]
        about: dict[str, Any] = {
            "texts": [[one.text for one in found] for found in good],
            "broken": len(broken),
            "reason": next(iter(broken.values()), ""),
            "labels": labels if any(map(any, labels)) else [],
            "negatives": negatives if any(map(any, negatives)) else [],
            "scores": scores if scores and scores[0][0] is not None else None,
        }
        return DecodedImages(file.finish(about), **about)


def _distinct(images: Iterable[SourceImage], texts: dict[str, list[SourceImage]]) -> Iterator[SourceImage]:
    """Yield each image once; collect all texts of it, without the files."""
    for image in images:
        known = image.key in texts
        texts.setdefault(image.key, []).append(replace(image, blob=b""))
        if not known:
            yield image


def _decoded(
    images: Iterable[SourceImage], model: Model, threads: int
) -> Iterator[tuple[SourceImage, Future[np.ndarray]]]:
    """Yield images with their pixels, in order. A bounded number is in memory at a time."""
    waiting: deque[tuple[SourceImage, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for image in images:
            waiting.append((image, pool.submit(_pixels_of, model, image.blob)))
            if len(waiting) >= QUEUED_PER_THREAD * threads:
                yield waiting.popleft()
        yield from waiting


def _pixels_of(model: Model, blob: bytes) -> np.ndarray:
    return cropped(model.preprocess, decode(blob))


def _size(model: Model) -> tuple[int, int]:
    size = model.preprocess_config.size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _digest(model: Model) -> str:
    """Return the SHA-256, hex, of everything besides the files that decides the pixels."""
    config = model.preprocess_config
    used = {name: value for name, value in asdict(config).items() if name not in NOT_IN_PIXELS}
    return hashlib.sha256(json.dumps([type(config).__name__, used, PIL.__version__, RULES]).encode()).hexdigest()
