"""Retrieval metrics: the nine of the old tutorials, and three textbook metrics with other definitions.

The nine follow DocArray v1's evaluation functions, whose average precision, nDCG and R-precision consider the retrieved
list only. The textbook metrics consider every relevant item. They follow trec_eval (map_cut, ndcg_cut, Rprec), as
defined by Manning, Raghavan and Schuetze, Introduction to Information Retrieval, chapter 8.

Each of these takes `hits`, the relevance of each retrieved item, best rank first, and `max_rel`, the number of relevant
items in the index. `graded_ndcg` takes scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Relevance = Sequence[bool]


def precision_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the share of retrieved items that are relevant."""
    return sum(hits) / len(hits) if hits else 0.0


def recall_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the share of relevant items that are retrieved."""
    return sum(hits) / max_rel if max_rel else 0.0


def f1_score_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the harmonic mean of precision and recall; 0 if both are 0."""
    precision, recall = precision_at_k(hits, max_rel), recall_at_k(hits, max_rel)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def hit_at_k(hits: Relevance, max_rel: int) -> float:
    """Return 1 if any retrieved item is relevant, otherwise 0."""
    return float(any(hits))


def average_precision(hits: Relevance, max_rel: int) -> float:
    """Return the mean of the precision at each hit; 0 without a hit."""
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    return sum(precisions) / len(precisions) if precisions else 0.0


def reciprocal_rank(hits: Relevance, max_rel: int) -> float:
    """Return 1 / rank of the first hit, ranks from 1; 0 without a hit."""
    return next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0)


def dcg_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the relevance at rank 1 plus the sum of the relevance at each rank i >= 2 over log2(i)."""
    return sum(hit / math.log2(rank) if rank > 1 else float(hit) for rank, hit in enumerate(hits, 1))


def ndcg_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the DCG over the DCG of the same list, hits first; 0 without a hit."""
    best = dcg_at_k(sorted(hits, reverse=True), max_rel)
    return dcg_at_k(hits, max_rel) / best if best else 0.0


def r_precision(hits: Relevance, max_rel: int) -> float:
    """Return the precision over the first R items, R being the number of hits; 0 without a hit."""
    count = sum(hits)
    return sum(hits[:count]) / count if count else 0.0


NINE: tuple[Callable[[Relevance, int], float], ...] = (
    precision_at_k,
    recall_at_k,
    f1_score_at_k,
    hit_at_k,
    average_precision,
    reciprocal_rank,
    dcg_at_k,
    ndcg_at_k,
    r_precision,
)


def textbook_map_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the sum of the precision at each hit over `max_rel`; the mean over queries is trec_eval's map_cut."""
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    return sum(precisions) / max_rel if max_rel else 0.0


def textbook_ndcg_at_k(hits: Relevance, max_rel: int) -> float:
    """Return the sum of 1 / log2(rank + 1) over the hits, over that of the best list; trec_eval's ndcg_cut.

    The best list has the length of `hits` and starts with the relevant items.
    """
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(max_rel, len(hits)) + 1))
    return sum(hit / math.log2(rank + 1) for rank, hit in enumerate(hits, 1)) / best if best else 0.0


def textbook_r_precision(hits: Relevance, max_rel: int) -> float:
    """Return the share of hits among the first R items, with R = `max_rel`; trec_eval's Rprec of the k retrieved."""
    return sum(hits[:max_rel]) / max_rel if max_rel else 0.0


TEXTBOOK: tuple[Callable[[Relevance, int], float], ...] = (
    textbook_map_at_k,
    textbook_ndcg_at_k,
    textbook_r_precision,
)


def graded_ndcg(gains: Sequence[float], judged: Sequence[float], k: int) -> float:
    """Return nDCG at k with linear gain: the sum of score / log2(rank + 1), over that of the best list.

    It is trec_eval's ndcg_cut, which takes whole numbers only; others use the gain 2^score - 1 and get other values.

    Args:
        gains: score of each retrieved item, best rank first, at least 0; 0 for an item without a score.
        judged: all scores of the query, at least 0. They make the best list.
        k: number of items that count, of either list.

    Returns:
        In [0, 1]; 0 without a score above 0.
    """
    most = max(judged, default=0.0)
    if not most:
        return 0.0
    best = _discounted(sorted(judged, reverse=True)[:k], most)
    return _discounted(gains[:k], most) / best


def _discounted(gains: Sequence[float], unit: float) -> float:
    return sum(gain / unit / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def retrieval_metrics(relevance: Sequence[Relevance], max_rel: Sequence[int]) -> dict[str, float]:
    """Return the nine metrics, then the textbook metrics, as means over the queries.

    Args:
        relevance: per query, whether each retrieved item is relevant, best rank first.
        max_rel: per query, the number of relevant items in the index.

    Raises:
        ValueError: no queries.
    """
    if not relevance:
        raise ValueError("relevance must hold at least one query. Got none. Add queries.")
    return {metric.__name__: sum(map(metric, relevance, max_rel)) / len(relevance) for metric in (*NINE, *TEXTBOOK)}


def hit_by_chance(documents: int, relevant: int, k: int) -> float:
    """Return the expected hit@k of a random ranking: 1 - C(documents - relevant, k) / C(documents, k).

    Args:
        documents: number of documents in the index.
        relevant: number of relevant documents among them.
        k: number of retrieved documents.
    """
    return 1 - math.comb(documents - relevant, k) / math.comb(documents, k)


def nearest(queries: Any, index: Any, limit: int, *, chunk: int = 256) -> Any:
    """Return the most similar rows of `index` for each query, best first; ties by row number.

    Args:
        queries: (queries, dim) float32, L2-normalised.
        index: (rows, dim) float32, L2-normalised.
        limit: number of rows per query; fewer if the index is smaller.
        chunk: queries per similarity matrix; bounds the memory.

    Returns:
        (queries, min(limit, rows)) int64
    """
    import numpy as np

    limit = min(limit, len(index))
    found = np.empty((len(queries), limit), dtype=np.int64)
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ index.T  # (chunk, rows)
        found[start : start + chunk] = np.argsort(-similarity, axis=1, kind="stable")[:, :limit]
    return found
