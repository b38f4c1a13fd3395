"""What the tests of CSV files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def shop(tmp_path: Path, jpeg: Callable[[int], bytes]) -> Path:
    """Return a folder with images 0.jpg to 3.jpg."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    return tmp_path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is downloaded out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
