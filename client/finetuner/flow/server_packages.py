"""Checks that this installation can run a Flow: a client's has neither jina nor torch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..exceptions import InvalidInput

MODULES = ("jina", "torch", "sqlalchemy", "qdrant_client")


def require_server() -> None:
    """Check that the packages of `open-finetuner[server]` are installed.

    Raises:
        InvalidInput: they are not.
    """
    missing = [name for name in MODULES if find_spec(name) is None]
    if missing:
        raise InvalidInput(
            f"a Flow needs the packages of open-finetuner[server]. Got an installation without {', '.join(missing)}. "
            "Install them: pip install 'open-finetuner[server]'."
        )


def load_jina() -> Any:
    """Import Jina and return the module with its table of options.

    Raises:
        InvalidInput: it does not import, since another package has moved one that it needs.
    """
    try:
        from jina_cli import lookup
    except ImportError as error:
        raise InvalidInput(
            f"jina must be importable. Got {type(error).__name__}: {error}. Another package has moved one that it "
            "needs: `finetuner doctor` names it, and the command that repairs it."
        ) from error
    return lookup
