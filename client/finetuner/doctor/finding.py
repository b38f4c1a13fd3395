"""Finding: the result of one check of `finetuner doctor`, with advice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = 2**30  # bytes


class Status(StrEnum):
    """Result of a check."""

    OK = "ok"
    WARNING = "warning"
    """The Flow works, but not as well as it could."""
    FAILED = "failed"
    """The Flow does not work."""


@dataclass(frozen=True)
class Finding:
    """One row of the report."""

    name: str
    """Subject of the check."""
    status: Status
    found: str
    """Observed state, one line."""
    advice: str = ""
    """Next step. '' if the status is ok."""


def ok(name: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(name, Status.OK, found)


def warning(name: str, found: str, advice: str) -> Finding:
    """Return a finding that should change."""
    return Finding(name, Status.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Finding:
    """Return a finding that must change before the Flow works."""
    return Finding(name, Status.FAILED, found, advice)


def in_gib(count: float) -> str:
    """Return a number of bytes in GiB, such as '7.5 GiB'."""
    return f"{count / GIB:.1f} GiB"
