"""Arguments that take several values: one, a list, a tuple, a set, an array or a generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..exceptions import InvalidInput

Item = TypeVar("Item")


def several(name: str, value: object, kind: type[Item] | tuple[type[Item], ...], example: str) -> Iterator[Item]:
    """Yield the values of an argument, lazily. A single value is one, also a string, which is no list of letters.

    Args:
        name: of the argument, for error messages.
        value: one value of the kind, or an iterable of them.
        kind: class of a value.
        example: what to pass instead of a wrong value.

    Raises:
        InvalidInput: another type, or another value among them; the latter is raised when it is reached.
    """
    if isinstance(value, kind):
        return iter([value])
    if hasattr(value, "tolist"):  # an array: its strings become Python's
        return several(name, value.tolist(), kind, example)
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be {example}. Got {_shown(value)}.")
    return _each(name, value, kind, example)


def _each(name: str, values: Iterable[Any], kind: type[Item] | tuple[type[Item], ...], example: str) -> Iterator[Item]:
    for position, value in enumerate(values):
        if not isinstance(value, kind):
            raise InvalidInput(f"{name} must be {example}. Got {_shown(value)} at position {position}.")
        yield value


def _shown(value: object) -> str:
    return f"{value!r:.80} of type {type(value).__name__}"
