"""Values that the wire can carry, and those that it cannot, each refused by name."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from finetuner.contract.checks import flag, number, whole
from finetuner.contract.values import EXACT, count_values, plain
from finetuner.exceptions import InvalidInput


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3), (np.float32(0.5), 0.5), (np.float16(2), 2.0), (np.bool_(True), True), (np.str_("x"), "x"),
        (np.array(7), 7), (np.array([1, 2]), [1, 2]), (np.array([["a"]]), [["a"]]), (Decimal("9.99"), 9.99),
        (Fraction(1, 4), 0.25), ((1, (2,)), [1, [2]]), (None, None), (True, True), (0, 0), (-0.0, -0.0), ("", ""),
        ({"a": {"b": np.int8(1)}}, {"a": {"b": 1}}), (EXACT - 1, EXACT - 1), (1 - EXACT, 1 - EXACT), (1e300, 1e300),
        (5e-324, 5e-324), (2.0**65, 2.0**65), ("\N{GRINNING FACE}\0é", "\N{GRINNING FACE}\0é"), (np.longdouble(2), 2.0),
    ],
)  # fmt: skip
def test_numbers_are_taken(value: Any, expected: Any) -> None:
    found = plain(value, "tags")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r"tags\['a'\] must be finite. Got nan. Leave it out"),
        (np.float32("inf"), r"tags\['a'\] must be finite. Got inf"),
        (Decimal("NaN"), r"must be finite"),
        (EXACT, r"must be a number below 2\*\*53, .* Got 9007199254740992. Write it as a string"),
        (EXACT + 1, "Got 9007199254740993. Write"),
        (np.uint64(2**64 - 1), "Got 18446744073709551615. Write"),
        (-(2**63), "Got -9223372036854775808. Write"),
        pytest.param(10**5000, "Got one of 16610 bits. Write", id="5000 digits"),
        (1.7e18, "must be a number below"),
        (datetime.datetime(2026, 1, 2), "Got datetime.datetime.* of type datetime. Use its text or its number"),
        (np.datetime64("2026-01-02"), "of type date. Use its text"),
        (b"x", "Got b'x' of type bytes"),
        (1j, "of type complex"),
        ({1, 2}, "of type set"),
        (object, "of type type"),
        ("half \ud83d", r"must be whole characters. Got half of one, '\\ud83d', at position 5"),
        ({"\udc00": 1}, r"key of tags\['a'\] must be whole characters"),
        ({5: 1}, r"keys of tags\['a'\] must be strings. Got 5. Use str\(5\)"),
        ([1, {"b": float("nan")}], r"tags\['a'\]\[1\]\['b'\] must be finite"),
        (np.array([1, np.nan]), r"tags\['a'\]\[1\] must be finite"),
    ],
)
def test_other_values_are_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plain({"a": value}, "tags")


def test_a_value_within_itself_ends() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(InvalidInput, match="at most 24 levels deep"):
        plain(endless, "tags")


def test_a_set_is_a_list_of_a_parameter() -> None:
    assert sorted(plain({"$in": {"a", "b"}}, "filter", sets=True)["$in"]) == ["a", "b"]


def test_the_checks_take_numpy() -> None:
    assert type(whole("epochs", np.int64(3), 1, 9)) is int
    assert type(number("rate", np.float32(0.5), 0, 1)) is float
    assert flag("freeze", np.bool_(True)) is True
    with pytest.raises(InvalidInput, match=r"epochs must be a whole number in \[1, 9\]. Got nan"):
        whole("epochs", np.float64("nan"), 1, 9)


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 0), ([], 0), ({"a": 1, "b": [1, 2, [3]]}, 6), ([[], {}, (1,)], 4), ("abc", 0)]
)
def test_values_are_counted(value: object, expected: int) -> None:
    assert count_values(value) == expected
