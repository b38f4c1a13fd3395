"""Old names of the API: a deprecated function states its replacement, an unsupported one raises InvalidInput."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

from ..exceptions import InvalidInput
from ..models.backbones import list_models
from .runs import fit
from .session import login

create_run = fit  # name in older versions
create_training_run = fit  # name in older versions


def notebook_login(force: bool = False, interactive: bool | None = None) -> None:
    """Connect to a Flow; deprecated name of `login`."""
    _warn_renamed("notebook_login")
    login(force, interactive)


def connect(force: bool = False, interactive: bool | None = None) -> None:
    """Connect to a Flow; deprecated name of `login`."""
    _warn_renamed("connect")
    login(force, interactive)


def _warn_renamed(old: str) -> None:
    warnings.warn(f"finetuner.{old} is deprecated: use finetuner.login", DeprecationWarning, stacklevel=3)


def synthesize(*_: Any, **__: Any) -> NoReturn:
    """Raise an error: this project does not generate training data for text backbones.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput(
        "synthesize generates data for text backbones, which this project does not train. "
        f"It fine-tunes {', '.join(list_models())} and ARCH::TAG: pass pairs or labelled images to finetuner.fit."
    )


create_synthesis_run = synthesize  # name in older versions
