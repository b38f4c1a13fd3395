"""A gate for the tests of the lane."""

from __future__ import annotations

import pytest

from tests.encoder.lane.gate import Gate


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)
