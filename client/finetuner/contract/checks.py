"""Checks of single values from users.

Each check returns the value or raises InvalidInput, which states the expected value, the actual one and the next step.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput


def text(name: str, value: object) -> str:
    """Return a value that must be a string."""
    if isinstance(value, str):
        return value
    raise InvalidInput(f"{name} must be a string. Got {value!r}.")


def local_path(name: str, value: object) -> Path:
    """Return a user's path, a string or path object, with `~` as the home folder."""
    if isinstance(value, str | os.PathLike) and isinstance(path := os.fspath(value), str) and path:
        return Path(os.path.expanduser(path))  # noqa: PTH111 (an unknown user's folder is no error)
    raise InvalidInput(f"{name} must be a path. Got {value!r:.80}. Pass a string or a path object.")


def choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Check that a value is an allowed name; the error suggests the nearest one."""
    if isinstance(value, str) and value in allowed:
        return
    lower = {name.lower(): name for name in allowed}
    nearest = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.4)
    hint = f" Did you mean {lower[nearest[0]]!r}?" if nearest else ""
    raise InvalidInput(f"{name} must be one of {', '.join(allowed)}. Got {value!r}.{hint}")


def scalar(value: Any) -> Any:
    """Return a number or boolean of numpy or torch as Python's, and any other value as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def number(name: str, value: object, low: float, high: float) -> float:
    """Return a value that must be a number in [low, high]."""
    value = scalar(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # refuses NaN, too
        raise InvalidInput(f"{name} must be a number in [{low}, {high}]. Got {value!r}.")
    return float(value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return a value that must be a whole number in [low, high]; 3.0 counts as 3."""
    value = scalar(value)
    if isinstance(value, float) and value.is_integer():  # protobuf turns whole numbers into floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{name} must be a whole number in [{low}, {high}]. Got {value!r}.")
    return value


def options(name: str, value: object, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a mapping that must have no keys but the allowed ones."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a mapping with keys of {', '.join(allowed)}. Got {value!r}.")
    unknown = sorted(set(map(str, value)) - set(allowed))
    if unknown:
        raise InvalidInput(f"{name} must have keys of {', '.join(allowed)}. Got {', '.join(unknown)}. Leave them out.")
    return dict(value)


def flag(name: str, value: object) -> bool:
    """Return a value that must be true or false."""
    value = scalar(value)
    if isinstance(value, bool):
        return value
    raise InvalidInput(f"{name} must be True or False. Got {value!r}.")


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def checked_name(name: object, subject: str) -> str:
    """Return `name` if it is a valid name of a run, dataset or alias.

    Raises:
        InvalidInput: a name that is not 1 to 128 letters, digits, '.', '_' or '-', or does not start with a letter
            or digit.
    """
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise InvalidInput(
        f"{subject} must be 1 to 128 letters, digits, '.', '_' or '-', and start with a letter or digit. "
        f"Got {name!r}. Choose another name; paths are not names."
    )
