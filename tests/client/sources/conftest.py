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
