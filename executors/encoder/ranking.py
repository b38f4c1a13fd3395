"""Ranks the matches of a document for `/rank`, as clip-as-service does: by the softmax of cosine similarities.

A text with images needs both encoder rooms, in either order. The first room tags the document with the id of its
model. The second room uses the same model, and ranks. Embeddings in the request are never used.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from docarray import Document

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, mark_error
from finetuner.documents.images import is_text
from finetuner.exceptions import FinetunerServerError, InvalidDocument

SCORE, COSINE = "clip_score", "clip_score_cosine"
LOGIT_SCALE = 100.0  # as in clip-server, for every model
PREVIOUS_TAG = "finetuner_rank"  # between two rooms: model id of the first, or '' if it failed


def previous_model(documents: Iterable[Document]) -> str | None:
    """Return the id of the model that the previous room used for a request, or None without such a room."""
    return next((str(document.tags[PREVIOUS_TAG]) for document in documents if document.tags.get(PREVIOUS_TAG)), None)


def rank(documents: Iterable[Document], reads_texts: bool) -> None:
    """Sort the matches of the documents that no further room encodes.

    `clip_score` of a match is the softmax over the document's matches of `LOGIT_SCALE` times the cosine, 0 to 1.
    `clip_score_cosine` is the cosine, -1 to 1. Matches with an error come last and have no score.

    Args:
        documents: documents with matches, after this room has encoded its kind; changed in place. A document without
            matches gets the error tag.
        reads_texts: whether this room encodes texts; otherwise it encodes all other documents.
    """
    for document in documents:
        parts = (document, *document.matches)
        kinds = {is_text(part) for part in parts}
        if reads_texts not in kinds:
            continue
        if len(kinds) == 2 and PREVIOUS_TAG not in document.tags:
            mine = (part for part in parts if is_text(part) == reads_texts)
            document.tags[PREVIOUS_TAG] = next(filter(None, (part.tags.get(ARTIFACT_TAG) for part in mine)), "")
            continue
        document.tags.pop(PREVIOUS_TAG, None)
        _rank(document)


def _rank(document: Document) -> None:
    if not document.matches:
        mark_error(document, InvalidDocument("document must have matches to rank. Got none. Set `matches`."))
        return
    artifact = document.tags.get(ARTIFACT_TAG)
    good: list[Document] = []
    bad: list[Document] = []
    for match in document.matches:
        for name in (SCORE, COSINE):
            match.scores.pop(name, None)
        if artifact and ERROR_TAG not in match.tags and match.tags.get(ARTIFACT_TAG) != artifact:
            reason = f"match must be encoded by {artifact}, as its document is. It was not. Send both again."
            mark_error(match, FinetunerServerError(reason))
        (bad if ERROR_TAG in match.tags else good).append(match)
    if artifact and good:
        cosines = np.stack([match.embedding for match in good]) @ document.embedding  # (good,) float32
        weights = np.exp(LOGIT_SCALE * (cosines - cosines.max()).astype(np.float64))
        for match, cosine, weight in zip(good, cosines, weights / weights.sum(), strict=True):
            match.scores[SCORE].value, match.scores[SCORE].op_name = float(weight), "softmax"
            match.scores[COSINE].value, match.scores[COSINE].op_name = float(cosine), "cosine"
            match.embedding = None  # as clip-server does
        good.sort(key=lambda match: -match.scores[COSINE].value)
    document.matches = good + bad
