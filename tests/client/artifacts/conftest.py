"""An artifact that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """Return the folder of a copy of the published artifact."""
    return Path(shutil.copytree(published, tmp_path / published.name))
