"""Several captions of an image, in every source that has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.sources.kinds import documents_from
from finetuner.sources.samples import MAX_CAPTIONS, read_captions
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.made_shards import parquet, tar

TWO_COLUMNS = {"text": ["en", "de"]}


def pairs(path: Path, **options: Any) -> list[Pair]:
    return [read_pair(document) for document in documents_from(path, task="text-to-image", **options)]


def test_lists_of_captions(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    rows = [{"image": "0.jpg", "captions": ["a", " b "]}, {"image": "1.jpg", "captions": ["c"], "label": 7}]
    jsonl = shop / "a.jsonl"
    jsonl.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = {name: [row.get(name) for row in rows] for name in ("image", "captions", "label")}
    members = []
    for number, row in enumerate(rows):
        rest = {key: value for key, value in row.items() if key != "image"}
        members += [(f"{number}.jpg", jpeg(number)), (f"{number}.json", json.dumps(rest).encode())]
    expected = [Pair("a", jpeg(0)), Pair("b", jpeg(0)), Pair("c", jpeg(1), "7")]
    assert pairs(jsonl) == expected
    assert pairs(parquet(shop / "a.parquet", columns)) == expected
    assert pairs(tar(shop / "a.tar", members)) == expected
    assert len({pair.image_id for pair in expected[:2]}) == 1


def test_several_columns_of_captions(shop: Path, jpeg: Callable[[int], bytes]) -> None:
    rows: list[dict[str, Any]] = [
        {"image": "0.jpg", "en": "a", "de": "b", "text": "-"},
        {"image": "1.jpg", "en": "c", "de": "", "text": "-"},
        {"image": "2.jpg", "en": "d", "de": "e", "text": "-"},
    ]
    (shop / "a.csv").write_text("".join(f"{','.join(row)}\n" for row in [rows[0], *[row.values() for row in rows]]))
    (shop / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    parquet(shop / "a.parquet", {name: [row[name] or None for row in rows] for name in rows[0]})
    expected = [("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 2)]
    for ending in ("csv", "jsonl", "parquet"):
        found = pairs(shop / f"a.{ending}", columns=TWO_COLUMNS)
        assert found == [Pair(text, jpeg(number)) for text, number in expected]
        of_two_rows = pairs(shop / f"a.{ending}", columns=TWO_COLUMNS, csv_options=CSVOptions(size=2))
        assert [pair.text for pair in of_two_rows] == ["a", "b", "c"]


def test_lists_in_several_columns_are_one_list(shop: Path) -> None:
    lines = [{"image": "0.jpg", "en": ["a", "b", None], "de": "c"}, {"image": "1.jpg", "de": ["d"]}]
    (shop / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert [pair.text for pair in pairs(shop / "a.jsonl", columns=TWO_COLUMNS)] == ["a", "b", "c", "d"]


def test_a_row_without_any_caption_is_invalid(shop: Path) -> None:
    (shop / "a.csv").write_text("image,en,de\n0.jpg,,\n1.jpg,a,b\n")
    with pytest.raises(InvalidDocument, match="line 2: sample must have 1 to 1000 captions. Got 0. Correct the list"):
        pairs(shop / "a.csv", columns=TWO_COLUMNS)
    with pytest.warns(UserWarning, match="left out 1"):
        assert [pair.text for pair in pairs(shop / "a.csv", columns=TWO_COLUMNS, on_error="skip")] == ["a", "b"]
    (shop / "a.jsonl").write_text(
        '{"image": "0.jpg", "en": "a"}\n{"image": "0.jpg", "fr": "b", "de": "c"}\n{"image": 1}'
    )
    with pytest.raises(InvalidDocument, match="line 3: object must have the key 'en' or 'de'. Got image"):
        pairs(shop / "a.jsonl", columns=TWO_COLUMNS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "sample must have 1 to 1000 captions. Got 0"),
        (["a"] * (MAX_CAPTIONS + 1), "sample must have 1 to 1000 captions. Got 1001"),
        (["a", ""], r"caption must be a nonempty text. Got ''. Add it. \(Caption 1 of 2.\)"),
        (["x" * 2**17], r"Got 131072. Shorten it. \(Caption 0 of 1"),
        ([["a"]], r"caption must be a nonempty text. Got \['a'\]"),
        ({"a": 1}, "caption must be a nonempty text"),
    ],
)
def test_invalid_lists(value: Any, expected: str) -> None:
    with pytest.raises(InvalidDocument, match=expected):
        read_captions(value)


def test_a_missing_caption_column_is_refused(shop: Path) -> None:
    (shop / "a.csv").write_text("image,en\n0.jpg,a\n")
    with pytest.raises(InvalidInput, match=r"columns\['text'\] must be a column of .*Got 'de', but its columns"):
        pairs(shop / "a.csv", columns=TWO_COLUMNS)
