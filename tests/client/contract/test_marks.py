"""Marks: what is refused before anything is sent or stored."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.contract.marks import MAX_QUERY_BYTES, MAX_QUERY_TEXT, Mark, check_query
from finetuner.exceptions import InvalidInput


def test_a_mark_reads_what_it_writes() -> None:
    mark = Mark("1", ("a", "b", "c"), ("b",), ("c",), 20, "live")
    assert Mark.read("1", mark.tags()) == mark
    assert Mark.read("1", {"shown": ["a"], "chosen": ["a"], "offset": 3.0}) == Mark("1", ("a",), ("a",), offset=3)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"chosen": ["a"]}, "shown must name"),
        ({"shown": ["a"]}, "choose or refuse"),
        ({"shown": ["a"], "chosen": ["b"]}, "of the documents in `shown`"),
        ({"shown": ["a"], "refused": ["b"]}, "of the documents in `shown`"),
        ({"shown": ["a", "a"], "chosen": ["a"]}, "each id once"),
        ({"shown": ["a"], "chosen": ["a"], "refused": ["a"]}, "in both"),
        ({"shown": "a", "chosen": ["a"]}, "list of ids"),
        ({"shown": [1], "chosen": [1]}, "string of 1 to 512"),
        ({"shown": ["a", "x" * 513], "chosen": ["a"]}, "Got 513 characters"),
        ({"shown": [f"{n}" for n in range(101)], "chosen": ["1"]}, "at most 100"),
        ({"shown": ["a"], "chosen": ["a"], "offset": -1}, "offset"),
        ({"shown": ["a"], "chosen": ["a"], "offset": float("nan")}, "offset"),
        ({"shown": ["a"], "chosen": ["a"], "artifact": "x" * 300}, "artifact"),
        ({"shown": ["a"], "chosen": ["a"], "user": "admin"}, "Got 'user'"),
    ],
)
def test_malformed_marks_are_refused(tags: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        Mark.read("1", tags)


def test_the_query_is_one_bounded_text_or_image() -> None:
    check_query("x" * MAX_QUERY_TEXT, b"")
    check_query("", b"x" * MAX_QUERY_BYTES)
    for words, image in (("", b""), (" \n", b""), ("x", b"x"), ("x" * (MAX_QUERY_TEXT + 1), b"")):
        with pytest.raises(InvalidInput):
            check_query(words, image)
    with pytest.raises(InvalidInput, match="smaller image"):
        check_query("", b"x" * (MAX_QUERY_BYTES + 1))
