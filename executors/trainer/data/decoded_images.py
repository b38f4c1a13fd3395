"""Images decoded once, one after the other, into a file that later runs find again."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import PIL

from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument
from finetuner.models.model_kinds import Model
from finetuner.models.pixels import cropped

from .image_cache import ImageCache

WAITING = 4  # images a thread: so many files are in memory
LOGGED = 10  # broken images that get a line of their own
NOT_OF_PIXELS = ("mean", "std")

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class SourceImage:
    """One image with one of its texts."""

    key: str
    """Images of one key are the same one."""
    text: str
    """Caption or label."""
    blob: bytes
    """The image's file."""


@dataclass(frozen=True)
class DecodedImages:
    """Those that can be decoded, in the order in which they came first."""

    pixels: np.ndarray
    """(images, 3, height, width) uint8, memory-mapped, read-only."""
    texts: list[list[str]]
    """Of each image, at least one, in order."""
    broken: int
    """How many cannot be decoded."""
    reason: str
    """Why the first of those cannot; '' where there is none."""

    def __str__(self) -> str:
        found = f"{len(self.texts)} of {len(self.texts) + self.broken} images"
        return f"{found} ({self.reason.rstrip('.')})" if self.broken else found


def decode_images(
    images: Iterable[SourceImage], model: Model, cache: ImageCache, version: str, threads: int
) -> DecodedImages:
    """Decode every image, or find what an earlier run decoded; broken ones are left out with a warning.

    Args:
        images: read one by one, and not at all where the cache has them.
        model: says how images are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose images these all are.
        threads: that decode.

    Raises:
        FinetunerError: no space is left on disk.
    """
    name = f"{version}-{_digest(model)}"
    found = cache.find(name)
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
    texts: dict[str, list[str]] = {}
    broken: dict[str, str] = {}
    with cache.new(name, (3, *_size(model))) as file:
        for image, pixels in _decoded(_new(images, texts), model, max(threads, 1)):
            try:
                file.add(pixels.result())
            except InvalidDocument as error:
                broken[image.key] = str(error)
                if len(broken) <= LOGGED:
                    log.warning("Image of %r left out: %s", image.text[:60], error)
        good = [found for key, found in texts.items() if key not in broken]
        about: dict[str, Any] = {"texts": good, "broken": len(broken), "reason": next(iter(broken.values()), "")}
        return DecodedImages(file.finish(about), **about)


def _new(images: Iterable[SourceImage], texts: dict[str, list[str]]) -> Iterator[SourceImage]:
    """Yield each image once; collect the texts of all."""
    for image in images:
        if image.key in texts:
            texts[image.key].append(image.text)
        else:
            texts[image.key] = [image.text]
            yield image


def _decoded(
    images: Iterable[SourceImage], model: Model, threads: int
) -> Iterator[tuple[SourceImage, Future[np.ndarray]]]:
    """Yield images in order, with their pixels; only so many are in memory at a time."""
    waiting: deque[tuple[SourceImage, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for image in images:
            waiting.append((image, pool.submit(_pixels_of, model, image.blob)))
            if len(waiting) >= WAITING * threads:
                yield waiting.popleft()
        yield from waiting


def _pixels_of(model: Model, blob: bytes) -> np.ndarray:
    return cropped(model.preprocess, decode(blob))


def _size(model: Model) -> tuple[int, int]:
    size = model.preprocess_config.size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _digest(model: Model) -> str:
    """Return the SHA-256, hex, of what pixels depend on besides the files."""
    config = model.preprocess_config
    used = {name: value for name, value in asdict(config).items() if name not in NOT_OF_PIXELS}
    return hashlib.sha256(json.dumps([type(config).__name__, used, PIL.__version__]).encode()).hexdigest()
