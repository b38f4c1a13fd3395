"""Pairs with and without scores."""

from __future__ import annotations

import pytest

from finetuner.documents.content import PAIRS, SCORED, check_document, kind_of, looks_like_pair
from finetuner.documents.pairs import Pair, make_pair
from finetuner.documents.scores import document_has_score, pair_has_score, scored_alike
from finetuner.exceptions import InvalidDocument, InvalidInput

WITH, WITHOUT = Pair("a", b"x", score=0.0), Pair("a", b"x")


@pytest.mark.parametrize("pairs", [[], [WITH], [WITHOUT], [WITH] * 3, [WITHOUT] * 3])
def test_pairs_of_one_kind_pass(pairs: list[Pair]) -> None:
    assert list(scored_alike(pairs, pair_has_score, "train_data")) == pairs


def test_the_refusal_comes_after_the_last_pair_with_both_counts() -> None:
    pairs = scored_alike([WITHOUT, WITH, WITHOUT], pair_has_score, "eval_data")
    assert [next(pairs) for _ in range(3)] == [WITHOUT, WITH, WITHOUT]
    with pytest.raises(InvalidInput, match="eval_data must have .* Got 1 pairs with the tag .* and 2 without. Add the"):
        next(pairs)


def test_a_scored_pair_of_text_and_image_is_a_pair_of_its_own_kind() -> None:
    document = make_pair("a", b"x", {"finetuner_score": 0})
    assert document_has_score(document)
    assert looks_like_pair(document)
    assert (kind_of(document), kind_of(make_pair("a", b"x"))) == (SCORED, PAIRS)
    check_document(document)
    document.chunks[1].blob, document.chunks[1].uri = b"", "photos/1.jpg"
    with pytest.raises(InvalidDocument, match="pair must carry its image as blob or tensor. Got a uri alone"):
        check_document(document)
