"""`/rank` as clip-as-service has it: a document's matches, sorted by the softmax of their cosines with it.

A text with images needs both encoder rooms, in whichever order. The first leaves the id of its model on the document,
so that the second uses the same one, and ranks. What the caller sent as embeddings is never used.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from docarray import Document

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, mark_error
from finetuner.documents.images import is_text
from finetuner.exceptions import FinetunerServerError, InvalidDocument

SCORE, COSINE = "clip_score", "clip_score_cosine"
LOGIT_SCALE = 100.0  # that of clip-server, for every model
BEFORE_TAG = "finetuner_rank"  # on its way between two rooms, the model that the first has used; '' where it failed


def model_before(documents: Iterable[Document]) -> str | None:
    """Return the id of the model that the room before used for a request, None where there was no such room."""
    return next((str(document.tags[BEFORE_TAG]) for document in documents if document.tags.get(BEFORE_TAG)), None)


def rank(documents: Iterable[Document], reads_texts: bool) -> None:
    """Sort the matches of those documents for which this is the last room.

    `clip_score` of a match is the softmax over the document's matches of `LOGIT_SCALE` times the cosine, 0 to 1;
    `clip_score_cosine` is the cosine, -1 to 1. Matches with an error come last and have no score.

    Args:
        documents: with matches, encoded as far as this room encodes; changed in place. One without matches gets the
            error tag.
        reads_texts: whether this room encodes texts; otherwise it encodes everything else.
    """
    for document in documents:
        parts = (document, *document.matches)
        kinds = {is_text(part) for part in parts}
        if reads_texts not in kinds:
            continue
        if len(kinds) == 2 and BEFORE_TAG not in document.tags:
            mine = (part for part in parts if is_text(part) == reads_texts)
            document.tags[BEFORE_TAG] = next(filter(None, (part.tags.get(ARTIFACT_TAG) for part in mine)), "")
            continue
        document.tags.pop(BEFORE_TAG, None)
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
            match.embedding = None  # as clip-server does: it has served
        good.sort(key=lambda match: -match.scores[COSINE].value)
    document.matches = good + bad
