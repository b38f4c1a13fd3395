"""`make test` runs what failed once more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import twice

pytestmark = pytest.mark.process

TESTS = """
import os
from pathlib import Path


def test_passes():
    assert Path("once").write_text("") == 0


def test_fails_once():
    tried, seen = Path("tried"), Path("tried").exists()
    tried.touch()
    assert seen


def test_ends_its_process_once():
    tried, seen = Path("ended"), Path("ended").exists()
    tried.touch()
    if not seen:
        os._exit(3)
"""
FAILS = "\n\ndef test_fails():\n    assert not Path('once').exists()\n"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a folder twice, on two processes."""
    command = [sys.executable, str(Path(twice.__file__)), "-p", "xdist.plugin", "-n", "2", *arguments]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # some take seconds to import
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_what_passes_alone_is_flaky_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-3:] == [
        "FLAKY test_some.py::test_ends_its_process_once",
        "FLAKY test_some.py::test_fails_once",
        "2 flaky",
    ]


def test_what_fails_twice_ends_the_run_with_1(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS + FAILS)
    done = run(tmp_path)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1] == "2 flaky"
    assert "FLAKY test_some.py::test_fails\n" not in done.stdout


@pytest.mark.slow
def test_without_a_failure_nothing_runs_again(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    done = run(tmp_path, "-k", "passes")
    assert done.returncode == 0
    assert "flaky" not in done.stdout


@pytest.mark.slow
def test_a_file_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_other.py").write_text("import missing\n")
    done = run(tmp_path)
    assert done.returncode != 0
    assert "Once more" not in done.stdout
