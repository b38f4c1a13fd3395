"""Search parameters: their values and the combinations that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.contract.search_parameters import FEATURES, Facet, Hybrid, SearchParameters, asks_more
from finetuner.exceptions import InvalidInput


def test_values_are_read() -> None:
    given = {
        "positives": ["a", "a", "b"], "negatives": ["c"], "diversity": 1, "group_by": "product", "group_size": 2.0,
        "facets": {"colour": 3.0, "price": [1, 2.5]}, "hybrid": {"fields": ["text", "text"]}, "explain": True,
        "candidates": 50.0, "limit": 20, "order_by": None,
    }  # fmt: skip
    read = SearchParameters.read(given)
    assert (read.positives, read.negatives, read.diversity, read.group_size) == (("a", "b"), ("c",), 1.0, 2)
    assert read.facets == (Facet("colour", 3), Facet("price", edges=(1.0, 2.5)))
    assert (read.hybrid, read.candidates, read.order_by) == (Hybrid(("text",)), 50, None)
    assert asks_more(given)
    assert not asks_more({"limit": 3, "diversity": None})
    assert SearchParameters.read({}) == SearchParameters()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"positives": "a"}, "positives must be a list of ids"),
        ({"positives": [""]}, "positives must be ids, strings that are not empty"),
        ({"negatives": ["a"] * 257}, "negatives must have 256 entries at most"),
        ({"positives": ["a"], "negatives": ["a"]}, "'a' in both"),
        ({"diversity": 1.1}, r"diversity must be a number in \[0, 1\]"),
        ({"diversity": True}, "diversity must be a number"),
        ({"hide_duplicates": float("nan")}, "hide_duplicates must be a number"),
        ({"min_probability": 1.5}, "min_probability must be a number in"),
        ({"min_probability": "0.5"}, "min_probability must be a number"),
        ({"min_probability": float("nan")}, "min_probability must be a number"),
        ({"min_probability": 0.5, "positives": ["a"]}, "min_probability must come without positives"),
        ({"min_probability": 0, "hybrid": {"fields": ["text"]}}, "min_probability must come without hybrid"),
        ({"group_by": ""}, "group_by must be the name of a tag"),
        ({"group_by": "p", "group_size": 0}, "group_size must be a whole number"),
        ({"group_size": 2}, "group_size must come with group_by"),
        ({"group_by": "p", "group_size": 60}, "limit times group_size must be 1000"),
        ({"facets": ["colour"]}, "facets must map tags"),
        ({"facets": {"price": [5, 5]}}, "rising borders"),
        ({"facets": {"price": []}}, "1 to 64 borders"),
        ({"facets": {"colour": 1001}}, r"in \[1, 1000\]"),
        ({"facets": {f"f{i}": 1 for i in range(17)}}, "facets must be 16 at most"),
        ({"order_by": "-"}, "order_by must be the name of a tag"),
        ({"order_by": "price", "diversity": 0.5}, "both set the order"),
        ({"cursor": ""}, "cursor must be"),
        ({"cursor": "*", "group_by": "p"}, "cursor must come without .* Got group_by"),
        ({"hybrid": {"fields": []}}, "hybrid must list 1 to 16 `fields`"),
        ({"hybrid": {"fields": ["text"], "weight": 2}}, "hybrid's weight must be a number"),
        ({"hybrid": {"fields": ["text"], "wieght": 0.2}}, "hybrid must have keys of fields, weight. Got wieght"),
        ({"hybrid": {"fields": [None]}}, "Got null"),
        ({"explain": True}, "explain must come with hybrid"),
        ({"explain": 1, "hybrid": {"fields": ["text"]}}, "explain must be True or False"),
        ({"candidates": 10}, "candidates must come with one of"),
        ({"candidates": 5001, "group_by": "p"}, "candidates must be a whole number"),
        ({"candidates": 2000, "diversity": 0.5}, "must be 1000 at most"),
    ],
)
def test_wrong_values_are_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        SearchParameters.read(given)


def test_pages_beyond_the_candidates_are_refused() -> None:
    for offset, name, value in ((4990, "group_by", "p"), (990, "diversity", 0.5)):
        with pytest.raises(InvalidInput, match="at most"):
            SearchParameters.read({name: value}, limit=20, offset=offset)
    with pytest.raises(InvalidInput, match="Got offset"):
        SearchParameters.read({"cursor": "*"}, offset=1)
    assert set(FEATURES) >= {"cursor", "hybrid"}
