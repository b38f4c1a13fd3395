"""Metrics against COMPAT's worked example, DocArray v1, ir-measures and plain loops."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from docarray.math import evaluation as reference
from ir_measures import AP, Rprec, nDCG

from finetuner.metrics import NINE, TEXTBOOK, graded_ndcg, hit_by_chance, nearest, retrieval_metrics

WORKED = [0, 1, 1, 0, 1]
# COMPAT.md section 2, max_rel = 4
EXPECTED = {
    "average_precision": 0.5889,
    "dcg_at_k": 2.0616,
    "f1_score_at_k": 0.6667,
    "hit_at_k": 1.0,
    "ndcg_at_k": 0.7836,
    "precision_at_k": 0.6,
    "r_precision": 0.6667,
    "recall_at_k": 0.75,
    "reciprocal_rank": 0.5,
}
# The same list by the textbook, by hand: (1/2 + 2/3 + 3/5) / 4; (1/log2(3) + 1/log2(4) + 1/log2(6)) over that of
# the ranks 1 to 4; two hits among the first four.
TEXTBOOK_EXPECTED = {
    "textbook_map_at_k": 0.4417,
    "textbook_ndcg_at_k": 0.5925,
    "textbook_r_precision": 0.5,
}


def random_lists(count: int, seed: int = 0) -> list[tuple[list[bool], int]]:
    generator = random.Random(seed)
    made = []
    for _ in range(count):
        share = generator.random()
        hits = [generator.random() < share for _ in range(generator.randint(1, 25))]
        made.append((hits, sum(hits) + generator.randint(0 if any(hits) else 1, 5)))
    return made


def naive(name: str, hits: list[bool], max_rel: int) -> float:
    """The definitions of COMPAT.md, one step at a time."""
    ranks = [rank for rank in range(1, len(hits) + 1) if hits[rank - 1]]
    precision, recall = len(ranks) / len(hits), len(ranks) / max_rel

    def dcg(values: list[bool]) -> float:
        total = 0.0
        for rank in range(1, len(values) + 1):
            if values[rank - 1]:
                total += 1.0 if rank == 1 else 1.0 / math.log2(rank)
        return total

    if name == "precision_at_k":
        return precision
    if name == "recall_at_k":
        return recall
    if name == "f1_score_at_k":
        return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    if not ranks:
        return 0.0
    if name == "hit_at_k":
        return 1.0
    if name == "average_precision":
        return sum((number + 1) / rank for number, rank in enumerate(ranks)) / len(ranks)
    if name == "reciprocal_rank":
        return 1 / ranks[0]
    if name == "dcg_at_k":
        return dcg(hits)
    if name == "ndcg_at_k":
        return dcg(hits) / dcg([True] * len(ranks))
    assert name == "r_precision"
    return sum(rank <= len(ranks) for rank in ranks) / len(ranks)


def test_the_worked_example() -> None:
    found = retrieval_metrics([[bool(hit) for hit in WORKED]], [4])
    assert {name: round(value, 4) for name, value in found.items()} == EXPECTED | TEXTBOOK_EXPECTED


@pytest.mark.parametrize("metric", NINE, ids=lambda metric: metric.__name__)
def test_metrics_equal_docarray_and_a_plain_loop(metric: Callable[..., float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "asfarray", lambda values: np.asarray(values, float), raising=False)  # gone in numpy 2
    theirs = getattr(reference, metric.__name__)
    needs_max_rel = metric.__name__ in ("recall_at_k", "f1_score_at_k")
    for hits, max_rel in random_lists(1000):
        found = metric(hits, max_rel)
        assert found == pytest.approx(naive(metric.__name__, hits, max_rel))
        row = [int(hit) for hit in hits]
        assert found == pytest.approx(theirs(row, max_rel=max_rel) if needs_max_rel else theirs(row))


def test_textbook_metrics_equal_ir_measures() -> None:
    lists = random_lists(1000, seed=1)
    for k in {len(hits) for hits, _ in lists}:
        measures = {AP @ k: TEXTBOOK[0], nDCG @ k: TEXTBOOK[1], Rprec: TEXTBOOK[2]}
        chosen = {f"q{number}": entry for number, entry in enumerate(lists) if len(entry[0]) == k}
        relevant, ranked = {}, {}
        for query, (hits, max_rel) in chosen.items():
            not_found = {f"missing {number}": 1 for number in range(max_rel - sum(hits))}
            relevant[query] = {f"d{rank}": int(hit) for rank, hit in enumerate(hits)} | not_found
            ranked[query] = {f"d{rank}": float(-rank) for rank in range(k)}
        theirs = list(ir_measures.iter_calc(list(measures), relevant, ranked))
        assert len(theirs) == len(measures) * len(chosen)
        for value in theirs:
            assert measures[value.measure](*chosen[value.query_id]) == pytest.approx(value.value), value


def random_scores(count: int, top: int = 5) -> list[tuple[list[float], list[float]]]:
    """Gains of a ranked list, and all scores of its query, some of which were not found. Whole numbers up to `top`."""
    generator = random.Random(count)
    made = []
    for _ in range(count):
        gains = [float(generator.choice([0, 0, *range(top)])) for _ in range(generator.randint(1, 25))]
        made.append((gains, gains + [float(generator.randrange(top)) for _ in range(generator.randrange(15))]))
    return made


@pytest.mark.parametrize("k", [1, 10])
def test_graded_ndcg_equals_ir_measures(k: int) -> None:
    lists = random_scores(1000)
    qrels, ranked = {}, {}
    for number, (gains, judged) in enumerate(lists):
        qrels[f"q{number}"] = {f"d{rank}": int(gain) for rank, gain in enumerate(judged)}
        ranked[f"q{number}"] = {f"d{rank}": float(-rank) for rank in range(len(gains))}
    theirs = {value.query_id: value.value for value in ir_measures.iter_calc([nDCG @ k], qrels, ranked)}
    assert len(theirs) == len(lists)
    for number, (gains, judged) in enumerate(lists):
        assert graded_ndcg(gains, judged, k) == pytest.approx(theirs[f"q{number}"])


def test_graded_ndcg_takes_fractions_and_any_unit() -> None:
    by_hand = (0.25 + 1.0 / math.log2(3)) / (1.0 + 0.5 / math.log2(3))
    assert graded_ndcg([0.25, 1.0, 0.5], [0.25, 1.0, 0.5], 2) == pytest.approx(by_hand)
    for unit in (1e-300, 1e307):
        scaled = [unit * gain for gain in (0.25, 1.0, 0.5)]
        assert graded_ndcg(scaled, scaled, 2) == pytest.approx(by_hand)


@pytest.mark.parametrize(("gains", "judged"), [([], []), ([0.0], []), ([0.0, 0.0], [0.0, 0.0]), ([], [3.0])])
def test_graded_ndcg_of_nothing_is_zero(gains: list[float], judged: list[float]) -> None:
    assert graded_ndcg(gains, judged, 10) == 0.0


@pytest.mark.parametrize("metric", [*NINE, *TEXTBOOK], ids=lambda metric: metric.__name__)
@pytest.mark.parametrize("max_rel", [0, 3])
def test_nothing_retrieved_and_nothing_relevant_is_zero(metric: Callable[..., float], max_rel: int) -> None:
    assert metric([], max_rel) == 0.0
    assert metric([False, False], max_rel) == 0.0


def test_the_mean_is_over_the_queries() -> None:
    found = retrieval_metrics([[True, False], [False, False]], [1, 1])
    assert found["precision_at_k"] == 0.25
    assert found["hit_at_k"] == 0.5


def test_an_empty_list_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        retrieval_metrics([], [])


@pytest.mark.parametrize(("queries", "rows", "limit"), [(1, 1, 1), (7, 30, 5), (9, 4, 20), (300, 17, 17), (3, 0, 5)])
def test_nearest_equals_brute_force(queries: int, rows: int, limit: int) -> None:
    generator = np.random.default_rng(queries + rows)
    # Whole numbers: similarities are exact, so ties are ties and go by row number.
    asked = generator.integers(-2, 3, (queries, 4)).astype(np.float32)
    index = generator.integers(-2, 3, (rows, 4)).astype(np.float32)
    found = nearest(asked, index, limit, chunk=64)
    assert found.shape == (queries, min(limit, rows))
    for row, query in zip(found.tolist(), asked.tolist(), strict=True):
        similarity = [sum(a * b for a, b in zip(query, other, strict=True)) for other in index.tolist()]
        assert row == sorted(range(rows), key=lambda number: (-similarity[number], number))[:limit]


def test_hit_by_chance_equals_random_draws() -> None:
    assert hit_by_chance(5, 1, 5) == 1.0
    assert hit_by_chance(10, 2, 1) == pytest.approx(0.2)
    # 1 - (8/10 * 7/9): the first and the second draw both miss.
    assert hit_by_chance(10, 2, 2) == pytest.approx(1 - 8 / 10 * 7 / 9)
