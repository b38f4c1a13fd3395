"""The command line against a Flow that answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ToyFlow

pytestmark = pytest.mark.process


def run(host: str, *arguments: str, folder: Path) -> tuple[str, list[str]]:
    """Return what a command prints, and the packages that it has loaded."""
    program = (
        "import sys\n"
        "from finetuner.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    command = [sys.executable, "-c", program, *arguments, "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    printed, _, loaded = done.stdout.rstrip().rpartition("\n")
    return printed, loaded.split()


@pytest.mark.parametrize("side", ["grpc", "http"])
def test_runs_needs_no_heavy_package(open_flow: ToyFlow, side: str, tmp_path: Path) -> None:
    printed, loaded = run(getattr(open_flow, side), "runs", folder=tmp_path)
    assert printed == "RUN  EXPERIMENT  STATUS  ARTIFACT  CREATED"
    assert "finetuner" in loaded
    assert not {"torch", "jina", "docarray", "numpy", "pyarrow", "transformers", "open_clip", "PIL"} & set(loaded)


@pytest.mark.parametrize("side", ["grpc", "http"])
def test_search_prints_matches_and_writes_a_page(open_flow: ToyFlow, side: str, tmp_path: Path) -> None:
    asked = ["search", "a red dress", "--html", "page.html"]
    printed, loaded = run(getattr(open_flow, side), *asked, folder=tmp_path)
    header, line = printed.splitlines()
    assert header.split() == ["RANK", "SCORE", "DOCUMENT", "CAPTION", "TAGS"]
    assert line.split()[:2] == ["1", "0.250"]
    assert line.split()[-1] == "found"
    assert "0.250 found" in (tmp_path / "page.html").read_text()
    assert not {"torch", "jina", "pyarrow", "transformers", "open_clip"} & set(loaded)
