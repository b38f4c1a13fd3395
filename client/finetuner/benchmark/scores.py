"""Scores a model on the documents of a benchmark set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..config.callbacks import EvaluationCallback
from ..contract.wire import LABEL_TAG

if TYPE_CHECKING:
    from docarray import Document

    from ..models.model_kinds import Model


class Scores(NamedTuple):
    """Metrics of a model on one split."""

    metrics: dict[str, float]
    """Plain name -> mean over the queries, in [0, 1]."""
    images: int
    """Distinct images."""
    texts: int
    """Captions. 0 for an image model."""


def score_pairs(model: Model, documents: Iterable[Document], limit: int) -> Scores:
    """Return the metrics of a CLIP for search in both directions.

    Args:
        model: a CLIP with both towers.
        documents: pairs, read once. At most one batch of images is in memory.
        limit: k of the nine metrics.

    Raises:
        InvalidInput: no pair.
    """
    from ..documents.pairs import read_pair
    from ..evaluation.pairs import PREFIX, encode_pairs, score
    from ..models.clip import Clip

    assert isinstance(model, Clip)
    encoded = encode_pairs(model, map(read_pair, documents))
    metrics = {name.removeprefix(PREFIX): value for name, value in score(encoded, limit).items()}
    return Scores(metrics, len(encoded.vision_keys), len(encoded.text_keys))


def score_images(model: Model, documents: Iterable[Document], limit: int) -> Scores:
    """Return the metrics of a model for image search. The first image of each label searches all the others.

    Args:
        model: an image model.
        documents: labelled images. All are in memory at once.
        limit: k of the metrics.

    Raises:
        InvalidInput: no image.
    """
    from ..evaluation.search import evaluate_search, read_search_data

    queries, index = {}, []
    for document in documents:
        label = document.tags[LABEL_TAG]
        if label in queries:
            index.append(document)
        else:
            queries[label] = document
    options = EvaluationCallback(query_data="queries", index_data="index", limit=limit)
    data = read_search_data(options, model.towers, queries.values(), index)
    return Scores(evaluate_search(model, data, gather=False)[0], len(queries) + len(index), texts=0)
