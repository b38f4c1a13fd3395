"""The git commit in the provenance of a figure."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from finetuner.benchmark.provenance import PACKAGE_FOLDER, commit


def test_the_checkout_of_this_package_has_its_commit() -> None:
    assert (PACKAGE_FOLDER / "version.py").is_file()
    found = subprocess.run(
        ["git", "-C", str(PACKAGE_FOLDER), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("needs a git checkout")
    assert commit().removesuffix("-dirty") == found.stdout.strip()


def test_a_folder_in_another_checkout_has_no_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "version.py").write_text("")
    assert commit(tmp_path) == ""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(tmp_path), "add", "."], check=True)
    subprocess.run(["git", *identity, "-C", str(tmp_path), "commit", "-q", "-m", "x"], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}", commit(tmp_path))
    (tmp_path / "version.py").write_text("changed")
    assert re.fullmatch(r"[0-9a-f]{40}-dirty", commit(tmp_path))
