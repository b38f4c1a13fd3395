"""Parameters of a request, as protobuf delivers them."""

from __future__ import annotations

from typing import Any

import pytest

from finetuner.contract.parameters import Parameters
from finetuner.exceptions import InvalidInput


def test_values_and_defaults_are_returned() -> None:
    given = Parameters(
        {"limit": 5.0, "name": "x", "on": True, "none": None, "__results__": {}}, ("limit", "name", "on", "none")
    )
    assert given.whole("limit", 20, 1, 10) == 5
    assert type(given.whole("limit", 20, 1, 10)) is int
    assert given.whole("none", 20, 1, 30) == 20
    assert given.text("name") == given["name"] == "x"
    assert given.text("none", "live") == "live"
    assert given.flag("on", False)
    assert not given.flag("none", False)
    assert given.get("none", 3) == 3
    assert Parameters(None, ()).get("x") is None


def test_the_error_for_an_unknown_parameter_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="parameters must be of: limit, filter. Got b, limt"):
        Parameters({"limt": 5, "b": 1}, ("limit", "filter"))
    with pytest.raises(InvalidInput, match="of: none. Got x"):
        Parameters({"x": 1}, ())


@pytest.mark.parametrize("value", ["5", 1.5, True, float("nan"), float("inf"), -float("inf"), [5], {}])
def test_a_value_that_is_not_a_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="parameter 'limit' must be a whole number") as caught:
        Parameters({"limit": value}, ("limit",)).whole("limit", 20, 1, 1000)
    assert f"Got {value!r}." in str(caught.value)


@pytest.mark.parametrize("value", [0, -1.0, 1001, 10**400, 12345678.0])
def test_a_number_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match=r"parameter 'limit' must be in \[1, 1000\]") as caught:
        Parameters({"limit": value}, ("limit",)).whole("limit", 20, 1, 1000)
    assert f"Got {value!r}." in str(caught.value)


@pytest.mark.parametrize("value", [5, ["x"], True])
def test_a_value_that_is_not_a_string_is_refused(value: Any) -> None:
    for default in (None, "live"):
        with pytest.raises(InvalidInput, match="parameter 'name' must be a string. Got"):
            Parameters({"name": value}, ("name",)).text("name", default)


@pytest.mark.parametrize("value", [1, 0.0, "true"])
def test_a_value_that_is_not_a_flag_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="parameter 'on' must be true or false. Got"):
        Parameters({"on": value}, ("on",)).flag("on", False)


def test_a_missing_required_parameter_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="parameter 'name' is required"):
        Parameters({"name": None}, ("name",)).text("name")
