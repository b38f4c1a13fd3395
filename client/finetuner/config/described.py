"""The fields of a configuration with their help, from the docstrings below them, for the page's form of a new run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Described:
    """One field of a dataclass."""

    name: str
    type: str
    """As the source has it, such as 'int | None'."""
    default: Any
    """None where the field has none of its own."""
    help: str
    """Its docstring on one line; a field without one has that of the field before it."""


@cache
def described(kind: type) -> tuple[Described, ...]:
    """Return the fields of a dataclass in their order. Groups of fields, dataclasses themselves, are left out."""
    texts = {name: text for each in reversed(kind.__mro__[:-1]) for name, text in docstrings(each).items()}
    hints, found, last = get_type_hints(kind), [], ""
    for entry in fields(kind):
        if is_dataclass(hints[entry.name]):
            continue
        default = entry.default if entry.default is not MISSING else None
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        last = " ".join(texts.get(entry.name, last).split())
        found.append(Described(entry.name, str(entry.type), default, last))
    return tuple(found)


def docstrings(kind: type) -> dict[str, str]:
    """Return the docstrings below the fields in the source of a class, by field."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(found, ast.ClassDef)
    return of_body(found.body)


def of_body(body: Sequence[ast.stmt]) -> dict[str, str]:
    """Return the name of each assignment that a docstring follows, and the docstring."""
    texts = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                (ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)])),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = text
    return texts
