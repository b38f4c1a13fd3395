"""Arguments that take several values take one, too, and never a text as its letters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetuner.contract.several import several
from finetuner.exceptions import InvalidInput

EXAMPLE = "one id or several, strings"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("klm", ["klm"]), ("", [""]), (["k", "l"], ["k", "l"]), (("k",), ["k"]), ({"k"}, ["k"]),
        (iter("kl"), ["k", "l"]),
        ((letter for letter in "kl"), ["k", "l"]), (np.array(["k", "l"]), ["k", "l"]), (np.array("klm"), ["klm"]),
        (np.str_("klm"), ["klm"]), ({"k": 1}.keys(), ["k"]), ([], []), (range(0), []),
    ],
)  # fmt: skip
def test_one_or_several(value: Any, expected: list[str]) -> None:
    assert list(several("ids", value, str, EXAMPLE)) == expected


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (b"klm", "b'klm' of type bytes"), ({"k": 1}, r"\{'k': 1\} of type dict"), (5, "5 of type int"),
        (None, "None of type NoneType"), ([1], "1 of type int at position 0"), (["k", b"l"], "b'l' .* at position 1"),
        ([["k"]], r"\['k'\] of type list at position 0"), (np.array([[1]]), r"\[1\] of type list at position 0"),
    ],
)  # fmt: skip
def test_another_value_is_refused_by_name(value: Any, got: str) -> None:
    with pytest.raises(InvalidInput, match=f"ids must be {EXAMPLE}. Got {got}"):
        list(several("ids", value, str, EXAMPLE))
