"""Reads and checks the parameters of a request.

Jina sends `parameters` as a protobuf Struct, so whole numbers arrive as floats, and its client adds a key of its own.
Any other unknown parameter is an error: no parameter is accepted and then ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exceptions import InvalidInput
from . import checks

JINA_KEY = "__results__"


class Parameters:
    """The parameters of one request.

    Args:
        given: the parameters as received; None is an empty mapping.
        names: of the parameters that the endpoint reads.

    Raises:
        InvalidInput: a parameter that the endpoint does not read.
    """

    def __init__(self, given: Mapping[str, Any] | None, names: tuple[str, ...]) -> None:
        self._given = {key: value for key, value in (given or {}).items() if key != JINA_KEY}
        unknown = sorted(set(self._given) - set(names))
        if unknown:
            expected = ", ".join(names) or "none"
            raise InvalidInput(f"parameters must be of: {expected}. Got {', '.join(unknown)}. Leave it out.")

    def __getitem__(self, name: str) -> Any:
        if self._given.get(name) is None:
            raise InvalidInput(f"parameter {name!r} is required. Got none. Add it to `parameters`.")
        return self._given[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the parameter unchecked, or `default`."""
        value = self._given.get(name)
        return default if value is None else value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a parameter that must be a string. Without a default, it is required."""
        value = self[name] if default is None else self.get(name, default)
        if not isinstance(value, str):
            raise InvalidInput(f"parameter {name!r} must be a string. Got {value!r}.")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a parameter that must be a whole number in [low, high]."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:  # NaN % 1 is NaN
            raise InvalidInput(f"parameter {name!r} must be a whole number. Got {value!r}.")
        if not low <= value <= high:
            raise InvalidInput(f"parameter {name!r} must be in [{low}, {high}]. Got {value!r}.")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a parameter that must be true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise InvalidInput(f"parameter {name!r} must be true or false. Got {value!r}.")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a parameter that must be a number in [low, high], or None if it is missing."""
        value = self.get(name)
        return None if value is None else checks.number(f"parameter {name!r}", value, low, high)
