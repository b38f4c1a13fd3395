"""Scores of pairs with scores against ir-measures, and against the same pairs without them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import ir_measures
import pytest
from ir_measures import AP, RR, R, Rprec, nDCG

from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import (
    PREFIX,
    evaluate_pairs,
    image_to_text,
    text_to_image,
    text_to_image_graded_ndcg,
)  # fmt: skip
from finetuner.evaluation.relevance import KeyRelevance, ScoreRelevance
from finetuner.exceptions import InvalidInput
from finetuner.models.clip import Clip

Jpeg = Callable[[int], bytes]
TEXTS = ["a red dress", "a blue coat", "a striped shirt", "a long skirt", "a green hoodie", "nothing of this kind"]


def graded_pairs(jpeg: Jpeg, languages: tuple[str, ...] = ("",)) -> list[Pair]:
    """Each text with most of 14 images, with whole scores; those of the last text are all 0."""
    generator = random.Random(0)
    return [
        Pair(text, jpeg(image), "", languages[row % len(languages)], float(generator.randrange(4) * (row < 5)))
        for row, text in enumerate(TEXTS)
        for image in generator.sample(range(14), 11)
    ]


def qrels_and_ranking(model: Clip, pairs: list[Pair]) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    images = {pair.image_id: pair for pair in pairs}
    vision = {key: model.encode_images([decode(pair.image)])[0] for key, pair in images.items()}
    qrels: dict[str, dict[str, int]] = {}
    for pair in pairs:
        qrels.setdefault(pair.text, {})[pair.image_id] = int(pair.score or 0)
    text = dict(zip(qrels, model.encode_texts(list(qrels)), strict=True))
    return qrels, {query: {key: float(text[query] @ other) for key, other in vision.items()} for query in qrels}


def test_graded_and_binary_metrics_equal_ir_measures(mini: Clip, jpeg: Jpeg) -> None:
    pairs = graded_pairs(jpeg)
    qrels, ranked = qrels_and_ranking(mini, pairs)
    binary = {query: {image: int(score > 0) for image, score in row.items()} for query, row in qrels.items()}
    found = evaluate_pairs(mini, pairs, limit=14)
    graded = ir_measures.calc_aggregate([nDCG @ 10], qrels, ranked)
    assert found[text_to_image_graded_ndcg()] == pytest.approx(graded[nDCG @ 10])
    theirs = ir_measures.calc_aggregate([AP @ 14, nDCG @ 14, Rprec, RR @ 14, R @ 14], binary, ranked)
    for name, measure in (
        ("textbook_map_at_k", AP @ 14),
        ("textbook_ndcg_at_k", nDCG @ 14),
        ("textbook_r_precision", Rprec),
        ("reciprocal_rank", RR @ 14),
        ("recall_at_k", R @ 14),
    ):
        assert found[PREFIX + name] == pytest.approx(theirs[measure]), name


def test_recall_in_both_directions_equals_a_plain_loop(mini: Clip, jpeg: Jpeg) -> None:
    pairs = graded_pairs(jpeg, languages=("en", "de"))
    qrels, ranked = qrels_and_ranking(mini, pairs)
    found = evaluate_pairs(mini, pairs)
    for language, texts in (("", TEXTS), ("en", TEXTS[::2]), ("de", TEXTS[1::2])):
        described = sorted({image for text in texts for image, score in qrels[text].items() if score})
        for k in (1, 5, 10):
            forward = [
                any(qrels[text].get(image, 0) for image in sorted(ranked[text], key=lambda i: -ranked[text][i])[:k])
                for text in texts
            ]
            assert found[text_to_image(k, language)] == pytest.approx(sum(forward) / len(forward))
            back = [
                any(qrels[text].get(image, 0) for text in sorted(texts, key=lambda t: -ranked[t][image])[:k])
                for image in described
            ]
            assert found[image_to_text(k, language)] == pytest.approx(sum(back) / len(back))
        own = {text: qrels[text] for text in texts}
        theirs = ir_measures.calc_aggregate([nDCG @ 10], own, {text: ranked[text] for text in texts})
        assert found[text_to_image_graded_ndcg(language)] == pytest.approx(theirs[nDCG @ 10])


def test_one_image_a_text_with_equal_scores_gives_the_metrics_of_pairs_without(mini: Clip, jpeg: Jpeg) -> None:
    plain = [Pair(text, jpeg(row)) for row, text in enumerate(TEXTS)]
    scored = evaluate_pairs(mini, [replace(pair, score=0.5) for pair in plain])
    graded = scored.pop(text_to_image_graded_ndcg())
    assert scored == pytest.approx(evaluate_pairs(mini, plain))
    assert 0 < graded <= 1


def test_the_higher_of_two_scores_counts(mini: Clip, jpeg: Jpeg) -> None:
    pairs = graded_pairs(jpeg)
    lower = [replace(pair, score=(pair.score or 0) / 2, text=f" {pair.text} ") for pair in pairs]
    once = evaluate_pairs(mini, pairs)
    assert evaluate_pairs(mini, [*pairs, *lower]) == pytest.approx(once)
    assert evaluate_pairs(mini, [*pairs[:5], *lower, *pairs[5:]])[text_to_image_graded_ndcg()] == pytest.approx(
        once[text_to_image_graded_ndcg()]
    )


def test_scores_that_are_all_zero_give_zeros(mini: Clip, jpeg: Jpeg) -> None:
    found = evaluate_pairs(mini, [Pair("a", jpeg(0), score=0.0), Pair("b", jpeg(1), score=0.0)])
    assert set(found.values()) == {0.0}


def test_a_broken_image_is_skipped_with_its_score(mini: Clip, jpeg: Jpeg) -> None:
    good = graded_pairs(jpeg)
    broken = [Pair(TEXTS[0], jpeg(99)[:200], score=9.0), Pair("only this", jpeg(99)[:200], score=9.0)]
    assert evaluate_pairs(mini, [*good[:3], *broken, *good[3:]]) == evaluate_pairs(mini, good)


def test_scores_of_some_pairs_only_are_refused(mini: Clip, jpeg: Jpeg) -> None:
    with pytest.raises(InvalidInput, match="evaluation data must have a score for each pair, or for none. Got 1 pairs"):
        evaluate_pairs(mini, [Pair("a", jpeg(0), score=1.0), Pair("b", jpeg(1))])


def test_pairs_without_scores_have_no_graded_metric(mini: Clip, jpeg: Jpeg) -> None:
    assert text_to_image_graded_ndcg() == "text_to_image_graded_ndcg_at_10"
    assert not any("graded" in name for name in evaluate_pairs(mini, [Pair("a", jpeg(0), "", "de")]))


def test_relevance_by_keys_and_by_scores_agree_where_they_say_the_same() -> None:
    keys = KeyRelevance(["x", "y", "x", "z"], ["y", "x", "x"])
    scores = ScoreRelevance([{1: 1.0, 2: 0.5}, {0: 2.0, 1: 0.0}, {2: 1.0, 1: 1.0}, {}])
    for text in range(4):
        assert keys.count(text) == scores.count(text)
        assert keys.described([text]) == scores.described([text])
        assert [keys.relevant(text, image) for image in range(3)] == [
            scores.relevant(text, image) for image in range(3)
        ]
    assert keys.described([0, 1]) == scores.described([0, 1]) == [0, 1, 2]
