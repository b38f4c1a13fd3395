"""Labels, scores and captions: one meaning, whatever the source."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from docarray import Document

from finetuner.documents.content import check_document
from finetuner.documents.labelled import read_labelled
from finetuner.documents.pairs import make_pair, read_pair, with_image_blob
from finetuner.documents.tags import check_tags, make_tags, read_caption, read_label, read_score
from finetuner.exceptions import InvalidDocument


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3\n", np.int64(3), np.float32(3), Decimal("3.0")])
def test_a_whole_number_is_one_label(value: object) -> None:
    assert read_label(value) == "3"


@pytest.mark.parametrize("value", [None, "", "  ", math.nan, "nan", "NaN", "<NA>", np.float32("nan"), Decimal("nan")])
def test_a_missing_label_is_no_class(value: object) -> None:
    assert read_label(value) == ""
    assert make_tags(value, None, value) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.5, "0.5"), ("a b", "a b"), (2**60 + 1, str(2**60 + 1)), ("None", "None"), (True, "True")],
)
def test_other_labels_stay(value: object, expected: str) -> None:
    assert read_label(value) == expected


@pytest.mark.parametrize("value", [math.inf, b"shoe", ["shoe"], {"a": 1}, "half \ud83d"])
def test_what_is_no_label_is_refused(value: object) -> None:
    with pytest.raises(InvalidDocument, match="label must be .* Got"):
        read_label(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 1.0), ("0.5", 0.5), ("0,5", 0.5), (" 1e-3 ", 0.001), (np.float32(0.5), 0.5)]
)
def test_scores(value: object, expected: float) -> None:
    assert read_score(value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", "inf", "high", "1,2,3", "", True, [1], 10**400])
def test_a_score_is_a_finite_number(value: object) -> None:
    with pytest.raises(InvalidDocument, match="score must be a finite number"):
        read_score(value)


@pytest.mark.parametrize("value", [None, math.nan, " ", 3, "half \ud83d", "a" * 70_000])
def test_what_is_no_caption_is_refused(value: object) -> None:
    with pytest.raises(InvalidDocument, match="caption must"):
        read_caption(value)


def test_pairs_and_labelled_images_agree_on_labels() -> None:
    pair, image = make_pair("a", b"x", {"finetuner_label": 3}), Document(blob=b"x", tags={"finetuner_label": "3"})
    again = Document.from_protobuf(pair.to_protobuf())
    assert read_pair(again).label == read_labelled([image])[0].label == "3"
    assert read_pair(make_pair("a", b"x", {"finetuner_label": math.nan})).label == ""


@pytest.mark.parametrize("tags", [{"finetuner_score": math.nan}, {"finetuner_label": math.inf}, {"language": ["de"]}])
def test_a_document_is_checked_before_it_is_sent(tags: dict[str, object]) -> None:
    for check in (check_document, lambda document: with_image_blob(document, bytes, check=False)):
        with pytest.raises(InvalidDocument, match="must be"):
            check(make_pair("a", b"x", tags))
    with pytest.raises(InvalidDocument, match="must be"):
        check_tags(tags)
