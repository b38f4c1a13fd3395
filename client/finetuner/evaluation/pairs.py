"""Scores a CLIP on pairs: retrieval of images by text and of texts by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ..contract.dimensions import shortened
from ..documents.images import decode
from ..documents.pairs import Pair
from ..documents.scores import pair_has_score, scored_alike
from ..exceptions import InvalidDocument, InvalidInput
from ..metrics import graded_ndcg, nearest, retrieval_metrics
from ..models.clip import TEXT, VISION, Clip
from .relevance import KeyRelevance, Relevance, ScoreRelevance

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image

LIMIT = 20
RECALLS = (1, 5, 10)
GRADED = 10
PREFIX = f"{TEXT}-to-{VISION}_"


def text_to_image(k: int, language: str = "") -> str:
    """Return the name of recall at k, text to image: the share of texts with a relevant image among the first k."""
    return f"text_to_image_recall_at_{k}" + (f"/{language}" if language else "")


def image_to_text(k: int, language: str = "") -> str:
    """Return the name of recall at k, image to text: the share of images with a relevant text among the first k."""
    return f"image_to_text_recall_at_{k}" + (f"/{language}" if language else "")


def text_to_image_graded_ndcg(language: str = "") -> str:
    """Return the name of nDCG at 10, text to image, with the scores of pairs as linear gains; see `graded_ndcg`."""
    return f"text_to_image_graded_ndcg_at_{GRADED}" + (f"/{language}" if language else "")


def of_size(name: str, dim: int) -> str:
    """Return the name of a metric of vectors cut to `dim` numbers."""
    return f"{name}/{dim}d"


def mean_recall(metrics: Mapping[str, float], prefix: str = "", k: int = 5) -> float:
    """Return the mean of recall at k in both directions, in [0, 1].

    Args:
        metrics: metrics from `evaluate_pairs`.
        prefix: prefix of the metric names.
        k: one of RECALLS.
    """
    return (metrics[prefix + text_to_image(k)] + metrics[prefix + image_to_text(k)]) / 2


class PairEncoder(Protocol):
    """The interface of a model that encodes pairs: a `Clip`, or both of its towers run by ONNX Runtime."""

    dim: int
    """Embedding size."""
    preprocess: Callable[[Image], torch.Tensor]
    """One image -> (3, size, size) float32."""

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised."""

    def encode_pixels(self, pixels: Sequence[torch.Tensor], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised."""


@dataclass(frozen=True)
class EncodedPairs:
    """The embeddings of both sides of pairs, each image once."""

    text: Any
    """(texts, dim) float32, L2-normalised."""
    text_keys: Sequence[str]
    """Relevance key of each text."""
    languages: Sequence[str]
    """Language of each text."""
    vision: Any
    """(images, dim) float32, L2-normalised."""
    vision_keys: Sequence[str]
    """Relevance key of each image."""
    scores: Sequence[Mapping[int, float]] | None = None
    """Of pairs with scores, where equal texts of a language are one: row of an image -> score. None without."""

    @property
    def relevance(self) -> Relevance:
        """Relevance of the images to the texts: by scores if there are any, else by keys."""
        if self.scores is not None:
            return ScoreRelevance(self.scores)
        return KeyRelevance(self.text_keys, self.vision_keys)


def evaluate_pairs(
    model: Clip, pairs: Iterable[Pair], *, limit: int = LIMIT, batch_size: int = 64, dims: Sequence[int] = ()
) -> dict[str, float]:
    """Score a model on pairs.

    Identical images count as one. A text and an image are relevant to each other if they share a label or an image.

    Scores of pairs take the place of labels: a text and an image are relevant to each other if their pair has a score
    above 0. Equal texts of a language are then one query, with all its images; of two scores of the same text and
    image the higher counts. A query without a score above 0 counts, with 0.

    Args:
        model: a CLIP with both towers.
        pairs: at least one pair, read once. Images that cannot be decoded are skipped with their texts.
        limit: k of Finetuner's nine metrics and of the textbook metrics.
        batch_size: texts or images in a forward pass.
        dims: further sizes of vectors to score, each below the model's own; see `score_short`.

    Returns:
        Finetuner's nine metrics and the textbook metrics, text to image, as `clip-text-to-clip-vision_...`; and recall
        at 1, 5 and 10 in both directions as CLIP_benchmark defines it (any relevant match counts). Recall is also
        given for each language, over its texts and the images that they describe; and for each of `dims`. For pairs
        with scores also `text_to_image_graded_ndcg_at_10`, nDCG with the score as linear gain. Images without a score
        for the text have gain 0, and the best list is made from all its scores.

    Raises:
        InvalidInput: there is no pair, no image can be decoded, or some pairs have a score and others do not.
    """
    encoded = encode_pairs(model, pairs, batch_size)
    return score(encoded, limit) | score_short(encoded, dims)


def encode_pairs(model: PairEncoder, pairs: Iterable[Pair], batch_size: int = 64) -> EncodedPairs:
    """Encode pairs while reading them; at most a batch of images is in memory.

    Args:
        model, pairs, batch_size: see `evaluate_pairs`.

    Raises:
        InvalidInput: there is no pair, no image can be decoded, or some pairs have a score and others do not.
    """
    import numpy as np

    images: dict[str, str] = {}  # image id -> relevance key
    rows: dict[str, int] = {}  # image id -> row
    queries: dict[tuple[str, str], dict[int, float]] = {}  # text and language -> row -> score
    broken: set[str] = set()
    texts, text_keys, languages = [], [], []
    vectors, batch = [np.empty((0, model.dim), dtype=np.float32)], []
    for pair in scored_alike(pairs, pair_has_score, "evaluation data"):
        if pair.image_id not in images and pair.image_id not in broken:
            try:
                batch.append(model.preprocess(decode(pair.image)))
                images[pair.image_id] = pair.relevance_key
                rows[pair.image_id] = len(rows)
            except InvalidDocument:
                broken.add(pair.image_id)
            if len(batch) == batch_size:
                vectors.append(model.encode_pixels(batch, batch_size))
                batch = []
        if pair.image_id in broken:
            continue
        query, row = (pair.text.strip(), pair.language), rows[pair.image_id]
        known = query in queries
        if pair.score is not None:
            scores = queries.setdefault(query, {})
            scores[row] = max(scores.get(row, 0.0), pair.score)
        if not known:
            texts.append(pair.text)
            text_keys.append(pair.relevance_key)
            languages.append(pair.language)
    if not texts:
        missing = "image that can be decoded" if broken else "pair"
        raise InvalidInput(f"evaluation data must hold at least one {missing}. Got none.")
    vision = np.concatenate([*vectors, model.encode_pixels(batch, batch_size)])
    return EncodedPairs(
        model.encode_texts(texts, batch_size),
        text_keys,
        languages,
        vision,
        list(images.values()),
        list(queries.values()) or None,
    )


def score(
    encoded: EncodedPairs, limit: int = LIMIT, find: Callable[[Any, Any, int], Any] = nearest
) -> dict[str, float]:
    """Return the metrics of `evaluate_pairs`. Similarities of a few hundred queries are in memory at a time.

    Args:
        encoded: at least one text, and its images.
        limit: see `evaluate_pairs`.
        find: (queries, index, limit) -> rows of the index for each query, as `metrics.nearest`.
    """
    text, vision, relevance = encoded.text, encoded.vision, encoded.relevance
    found = find(text, vision, max(limit, *RECALLS)).tolist()
    hits = [[relevance.relevant(query, image) for image in row] for query, row in enumerate(found)]
    counts = [relevance.count(query) for query in range(len(text))]
    nine = retrieval_metrics([row[:limit] for row in hits], counts)
    scores = {PREFIX + name: value for name, value in nine.items()}
    graded = None if encoded.scores is None else [_graded(*both) for both in zip(found, encoded.scores, strict=True)]
    for language in ["", *sorted(set(encoded.languages) - {""})]:
        rows = [row for row, own in enumerate(encoded.languages) if not language or own == language]
        images = relevance.described(rows)
        nearest_texts = find(vision[images], text[rows], max(RECALLS)).tolist()
        back = [
            [relevance.relevant(rows[row], image) for row in found_rows]
            for image, found_rows in zip(images, nearest_texts, strict=True)
        ]
        for k in RECALLS:
            scores[text_to_image(k, language)] = _recall([hits[row] for row in rows], k)
            scores[image_to_text(k, language)] = _recall(back, k)
        if graded is not None:
            scores[text_to_image_graded_ndcg(language)] = sum(graded[row] for row in rows) / len(rows)
    return scores


def _graded(found: Sequence[int], scores: Mapping[int, float]) -> float:
    """Return nDCG at 10 of one text, for the rows of images that it finds, best first."""
    return graded_ndcg([scores.get(image, 0.0) for image in found], list(scores.values()), GRADED)


def score_short(encoded: EncodedPairs, dims: Sequence[int]) -> dict[str, float]:
    """Return the recalls in both directions of vectors cut to their first numbers, under names such as '.../64d'.

    Args:
        encoded: at least one text, and its images.
        dims: sizes, each below that of the embeddings.
    """
    names = [name(k) for name in (text_to_image, image_to_text) for k in RECALLS]
    scores: dict[str, float] = {}
    for dim in dims:
        cut = score(replace(encoded, text=shortened(encoded.text, dim), vision=shortened(encoded.vision, dim)))
        scores |= {of_size(name, dim): cut[name] for name in names}
    return scores


def _recall(hits: Sequence[Sequence[bool]], k: int) -> float:
    return sum(any(row[:k]) for row in hits) / len(hits) if hits else 0.0
