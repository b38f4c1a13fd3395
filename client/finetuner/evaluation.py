"""How well a CLIP finds pictures by text, and texts by picture, on pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .clip import TEXT, VISION, Clip
from .exceptions import InvalidDocument, InvalidInput
from .images import decode
from .metrics import nearest, retrieval_metrics
from .pairs import Pair

LIMIT = 20
RECALLS = (1, 5, 10)
PREFIX = f"{TEXT}-to-{VISION}_"


def text_to_image(k: int, language: str = "") -> str:
    """Return the name of the metric: share of texts with a relevant picture among the first k."""
    return f"text_to_image_recall_at_{k}" + (f"/{language}" if language else "")


def image_to_text(k: int, language: str = "") -> str:
    """Return the name of the metric: share of pictures with a relevant text among the first k."""
    return f"image_to_text_recall_at_{k}" + (f"/{language}" if language else "")


def evaluate_pairs(model: Clip, pairs: Sequence[Pair], *, limit: int = LIMIT, batch_size: int = 64) -> dict[str, float]:
    """Score a model on pairs; equal pictures are one picture, relevant is what shares label or picture.

    Args:
        model: with both towers.
        pairs: at least one; pictures that cannot be decoded are left out, with their texts.
        limit: k of the nine metrics and of the textbook's.
        batch_size: per forward pass.

    Returns:
        The nine metrics and the textbook's, text to image, under `clip-text-to-clip-vision_...`; recall at 1, 5 and
        10 in both directions as CLIP_benchmark defines it (any relevant one counts); the latter for each language
        too, over its texts and the pictures that they describe.

    Raises:
        InvalidInput: no pair, or none with a picture that can be decoded.
    """
    if not pairs:
        raise InvalidInput("evaluation data must hold at least one pair. Got none.")
    first = {pair.image_id: pair for pair in reversed(pairs)}  # one pair for each picture, to know its label
    vision, broken = _encode_pictures(model, first, batch_size)
    pairs = [pair for pair in pairs if pair.image_id not in broken]
    if not pairs:
        raise InvalidInput("evaluation data must hold at least one picture that can be decoded. Got none.")
    text = model.encode_texts([pair.text for pair in pairs], batch_size)
    vision_keys = [pair.relevance_key for key, pair in first.items() if key not in broken]
    text_keys = [pair.relevance_key for pair in pairs]

    counts = Counter(vision_keys)
    hits = _hits(text, text_keys, vision, vision_keys, max(limit, *RECALLS))
    relevance = [row[:limit] for row in hits]
    scores = {
        PREFIX + name: value for name, value in retrieval_metrics(relevance, [counts[key] for key in text_keys]).items()
    }
    languages = sorted({pair.language for pair in pairs} - {""})
    for language in ["", *languages]:
        rows = [row for row, pair in enumerate(pairs) if not language or pair.language == language]
        described = {text_keys[row] for row in rows}
        pictures = [row for row, key in enumerate(vision_keys) if key in described]
        back = _hits(
            vision[pictures],
            [vision_keys[row] for row in pictures],
            text[rows],
            [text_keys[row] for row in rows],
            max(RECALLS),
        )
        for k in RECALLS:
            scores[text_to_image(k, language)] = _recall([hits[row] for row in rows], k)
            scores[image_to_text(k, language)] = _recall(back, k)
    return scores


def _encode_pictures(model: Clip, pictures: Mapping[str, Pair], batch_size: int) -> tuple[Any, set[str]]:
    import numpy as np

    broken: set[str] = set()
    vectors, batch = [np.empty((0, model.dim), dtype=np.float32)], []
    for image_id, pair in pictures.items():
        try:
            batch.append(model.preprocess(decode(pair.image)))
        except InvalidDocument:
            broken.add(image_id)
        if len(batch) == batch_size:
            vectors.append(model.encode_pixels(batch, batch_size))
            batch = []
    return np.concatenate([*vectors, model.encode_pixels(batch, batch_size)]), broken


def _hits(
    queries: Any, query_keys: Sequence[str], index: Any, index_keys: Sequence[str], limit: int
) -> list[list[bool]]:
    return [
        [index_keys[row] == key for row in rows]
        for key, rows in zip(query_keys, nearest(queries, index, limit), strict=True)
    ]


def _recall(hits: Sequence[Sequence[bool]], k: int) -> float:
    return sum(any(row[:k]) for row in hits) / len(hits)
