"""Names that older generations of scripts call; each says what to call instead."""

from __future__ import annotations

import warnings

from .session import login


def notebook_login(force: bool = False, interactive: bool | None = None) -> None:
    """Connect to a Flow; an older name of `login`."""
    _renamed("notebook_login")
    login(force, interactive)


def connect(force: bool = False, interactive: bool | None = None) -> None:
    """Connect to a Flow; an older name of `login`."""
    _renamed("connect")
    login(force, interactive)


def _renamed(old: str) -> None:
    warnings.warn(f"finetuner.{old} is deprecated: use finetuner.login", DeprecationWarning, stacklevel=3)
