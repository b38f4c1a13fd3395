"""Each test that asks for an `overlay` gets the base and every overlay in turn."""

from __future__ import annotations

import pytest

from .kustomize import Object, folders
from .objects import rendered


@pytest.fixture(params=folders())
def overlay(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)
