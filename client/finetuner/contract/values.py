"""Values that the wire can carry: numbers, strings, booleans, None, and lists and mappings of these.

Parameters and tags travel as protobuf's Struct, whose numbers are doubles: NaN arrives as an error, and a whole number
from 2**53 on arrives as a neighbour of itself.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from ..exceptions import InvalidInput
from .checks import scalar

EXACT = 2**53  # below, a double holds every whole number
WHOLE = 2**64  # nobody counts further, so a larger double was no whole number
MAX_DEPTH = 24  # of lists and mappings; protobuf reads 100 levels, and one of ours takes up to three of them


def plain(value: object, name: str, *, sets: bool = False, depth: int = 0) -> Any:
    """Return a value as the wire carries it: numpy's numbers and arrays become Python's, tuples become lists.

    Args:
        value: any value.
        name: the value's name, for error messages.
        sets: whether to return sets as lists, in any order; otherwise they are refused.
        depth: levels of lists and mappings around the value.

    Raises:
        InvalidInput: the wire cannot carry the value; the message has its name.
    """
    value = scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return whole_text(value, name)
    if isinstance(value, Real | Decimal):
        return exact(int(value) if isinstance(value, Integral) else _double(value, name), name)
    if depth >= MAX_DEPTH:
        raise InvalidInput(f"{name} must be at most {MAX_DEPTH} levels deep. Got more. Write it flatter.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInput(f"keys of {name} must be strings. Got {key!r:.80}. Use str({key!r:.80}).")
        return {
            whole_text(key, f"key of {name}"): plain(inner, f"{name}[{key!r:.80}]", sets=sets, depth=depth + 1)
            for key, inner in value.items()
        }
    if hasattr(value, "tolist"):  # an array, or a column of a table
        value = value.tolist()
    if isinstance(value, list | tuple) or (sets and isinstance(value, set | frozenset)):
        return [plain(inner, f"{name}[{at}]", sets=sets, depth=depth + 1) for at, inner in enumerate(value)]
    raise InvalidInput(
        f"{name} must be a string, a number, true or false, or a list or mapping of these. "
        f"Got {value!r:.80} of type {type(value).__name__}. Use its text or its number."
    )


def count_values(value: object) -> int:
    """Return the number of values in nested lists and mappings; protobuf has two fields or more for each."""
    count, waiting = 0, [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping):
            inner = list(inner.values())
        if isinstance(inner, list | tuple):
            count += len(inner)
            waiting += [each for each in inner if isinstance(each, Mapping | list | tuple)]
    return count


def exact(number: float, name: str) -> float:
    """Return a number that arrives as it is.

    Raises:
        InvalidInput: NaN, an infinite number, or one that may lose its last digits.
    """
    if isinstance(number, float) and not math.isfinite(number):
        raise InvalidInput(f"{name} must be finite. Got {number}. Leave it out.")
    if abs(number) >= EXACT and (isinstance(number, int) or abs(number) <= WHOLE):
        raise InvalidInput(
            f"{name} must be a number below 2**53, because larger whole numbers lose their last digits on the way. "
            f"Got {_digits(number)}. Write it as a string."
        )
    return number


def whole_text(text: str, name: str) -> str:
    """Return a text that UTF-8 can hold.

    Raises:
        InvalidInput: the text has half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} must be whole characters. Got half of one, {text[error.start]!r}, at position {error.start}. "
            "Decode the text as UTF-16, or leave that character out."
        ) from None
    return str(text)


def _double(value: Any, name: str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{name} must be a number that a double can hold. Got {value!r:.80}: {error}.") from None


def _digits(number: float) -> str:
    """Return a number as text; Python refuses to write whole numbers of thousands of digits."""
    if isinstance(number, int) and abs(number) > sys.float_info.max:
        return f"one of {number.bit_length()} bits"
    return str(number)
