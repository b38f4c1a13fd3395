"""The login of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from finetuner.api import session
from finetuner.api.hub import ADDRESS, HINT, TOKEN
from finetuner.contract.environment import LOGGED_IN


@contextmanager
def own_session() -> Iterator[None]:
    """Nobody is logged in at first; a login inside the block ends with it, and so do the variables that it sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_current", None)
        for name in (ADDRESS, TOKEN, HINT, LOGGED_IN):
            patch.setenv(name, "")  # recorded, to be restored
            patch.delenv(name)
        yield
