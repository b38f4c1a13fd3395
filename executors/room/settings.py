"""Reads the settings of a room, `uses_with` in the Flow's YAML, into a frozen dataclass.

A room class annotates `settings` with its dataclass. Each field is one setting, or a group: another such dataclass.
The YAML is flat, so a setting belongs to exactly one of them. `__post_init__` checks the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from inspect import get_annotations
from typing import Any, get_type_hints

from finetuner.contract.checks import text
from finetuner.exceptions import InvalidInput


@dataclass(frozen=True)
class RoomSettings:
    """Settings of every room.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    workspace_url: str = "workspace"
    """Folder, or file:// URL, that all rooms of a Flow share."""

    def __post_init__(self) -> None:
        text("workspace_url", self.workspace_url)


def read_settings(room: type, given: Mapping[str, Any]) -> Any:
    """Return the settings of a room, with defaults for those that are not given.

    Args:
        room: the class that annotates `settings`, or inherits the annotation.
        given: value by name, from `uses_with`.

    Raises:
        InvalidInput: an unknown setting, which Jina would ignore, or a value that is not allowed.
    """
    known = default_settings(room)
    if unknown := sorted(given.keys() - known.keys()):
        raise InvalidInput(
            f"uses_with of {room.__name__} must be of {', '.join(sorted(known))}. Got {', '.join(unknown)}. Correct "
            "the Flow's YAML, or what was given by --set."
        )
    return _build(_settings_class(room), given)


def default_settings(room: type) -> dict[str, Any]:
    """Return the default of each setting of a room by the setting's name, in the order of declaration.

    Raises:
        TypeError: two groups declare the same setting.
    """
    defaults: dict[str, Any] = {}
    for field in _flat_fields(_settings_class(room)):
        if field.name in defaults:
            raise TypeError(f"a setting of {room.__name__} must belong to one dataclass. Got {field.name} in two.")
        defaults[field.name] = field.default
    return defaults


def _settings_class(room: type) -> type:
    """Return the dataclass that the nearest class of a room's ancestry annotates `settings` with."""
    for each in room.__mro__:
        if "settings" in vars(each).get("__annotations__", {}):
            kind: type = get_annotations(each, eval_str=True)["settings"]
            if is_dataclass(kind):
                return kind
            break
    raise TypeError(f"{room.__name__} must annotate `settings` with a dataclass. Got none.")


@cache
def _groups(kind: type) -> dict[str, type]:
    return {name: hint for name, hint in get_type_hints(kind).items() if isinstance(hint, type) and is_dataclass(hint)}


def _flat_fields(kind: type) -> list[Field[Any]]:
    groups, flat = _groups(kind), []
    for field in fields(kind):
        if field.name in groups:
            flat += _flat_fields(groups[field.name])
        elif field.default is MISSING:
            raise TypeError(f"setting {field.name} of {kind.__name__} must have a default value. Got none.")
        else:
            flat.append(field)
    return flat


def _build(kind: type, given: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in _groups(kind):
            values[field.name] = _build(_groups(kind)[field.name], given)
        elif field.name in given:
            values[field.name] = given[field.name]
    return kind(**values)
