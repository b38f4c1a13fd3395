"""What a check of `finetuner doctor` has found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GIB = 2**30  # bytes


class Status(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"
    """It works, or will, but not as well as it could."""
    FAILED = "failed"
    """The Flow, or what was asked about it, does not work like this."""


@dataclass(frozen=True)
class Finding:
    """One row of the report."""

    name: str
    """What was looked at."""
    status: Status
    found: str
    """How it is, one line."""
    advice: str = ""
    """What to do, where it is not ok."""


def ok(name: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(name, Status.OK, found)


def warning(name: str, found: str, advice: str) -> Finding:
    """Return a finding to know about."""
    return Finding(name, Status.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Finding:
    """Return a finding that must change before the Flow works."""
    return Finding(name, Status.FAILED, found, advice)


def in_gib(count: float) -> str:
    """Return a number of bytes as people read it, such as '7.5 GiB'."""
    return f"{count / GIB:.1f} GiB"
