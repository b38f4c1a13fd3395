"""Pictures decoded once, one after the other, into a file that later runs find again."""

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

from .picture_cache import PictureCache

WAITING = 4  # pictures a thread: so many files are in memory
LOGGED = 10  # broken pictures that get a line of their own
NOT_OF_PIXELS = ("mean", "std")

log = logging.getLogger("finetuner")


@dataclass(frozen=True)
class Picture:
    """One picture with one of its texts."""

    key: str
    """Pictures of one key are the same one."""
    text: str
    """Caption or label."""
    blob: bytes
    """The picture's file."""


@dataclass(frozen=True)
class DecodedPictures:
    """Those that can be decoded, in the order in which they came first."""

    pixels: np.ndarray
    """(pictures, 3, height, width) uint8, memory-mapped, read-only."""
    texts: list[list[str]]
    """Of each picture, at least one, in order."""
    broken: int
    """How many cannot be decoded."""
    reason: str
    """Why the first of those cannot; '' where there is none."""

    def __str__(self) -> str:
        found = f"{len(self.texts)} of {len(self.texts) + self.broken} pictures"
        return f"{found} ({self.reason.rstrip('.')})" if self.broken else found


def decode_pictures(
    pictures: Iterable[Picture], model: Model, cache: PictureCache, version: str, threads: int
) -> DecodedPictures:
    """Decode every picture, or find what an earlier run decoded; broken ones are left out with a warning.

    Args:
        pictures: read one by one, and not at all where the cache has them.
        model: says how pictures are resized and cropped.
        cache: keeps the pixels.
        version: content hash of the dataset, whose pictures these all are.
        threads: that decode.

    Raises:
        FinetunerError: no space is left on disk.
    """
    name = f"{version}-{_digest(model)}"
    found = cache.find(name)
    if found is None:
        started = time.perf_counter()
        decoded = _decode_all(pictures, model, cache, name, threads)
        log.info("Decoded %d pictures in %.1f s", len(decoded.texts), time.perf_counter() - started)
    else:
        pixels, about = found
        decoded = DecodedPictures(pixels, **about)
        log.info("Found %d pictures decoded by an earlier run", len(decoded.texts))
    if decoded.broken:
        count = len(decoded.texts) + decoded.broken
        log.warning("%d of %d pictures cannot be decoded and are left out", decoded.broken, count)
    return decoded


def _decode_all(
    pictures: Iterable[Picture], model: Model, cache: PictureCache, name: str, threads: int
) -> DecodedPictures:
    texts: dict[str, list[str]] = {}
    broken: dict[str, str] = {}
    with cache.new(name, (3, *_size(model))) as file:
        for picture, pixels in _decoded(_new(pictures, texts), model, max(threads, 1)):
            try:
                file.add(pixels.result())
            except InvalidDocument as error:
                broken[picture.key] = str(error)
                if len(broken) <= LOGGED:
                    log.warning("Picture of %r left out: %s", picture.text[:60], error)
        good = [found for key, found in texts.items() if key not in broken]
        about: dict[str, Any] = {"texts": good, "broken": len(broken), "reason": next(iter(broken.values()), "")}
        return DecodedPictures(file.finish(about), **about)


def _new(pictures: Iterable[Picture], texts: dict[str, list[str]]) -> Iterator[Picture]:
    """Yield each picture once; collect the texts of all."""
    for picture in pictures:
        if picture.key in texts:
            texts[picture.key].append(picture.text)
        else:
            texts[picture.key] = [picture.text]
            yield picture


def _decoded(pictures: Iterable[Picture], model: Model, threads: int) -> Iterator[tuple[Picture, Future[np.ndarray]]]:
    """Yield pictures in order, with their pixels; only so many are in memory at a time."""
    waiting: deque[tuple[Picture, Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for picture in pictures:
            waiting.append((picture, pool.submit(_pixels_of, model, picture.blob)))
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
