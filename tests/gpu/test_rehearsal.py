"""The check runs on a machine without jina, at tiny sizes on a CPU: a minute here, before minutes on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.gpu.check import PARTS, TESTS

ROOT = Path(__file__).parents[2]
ABSENT = ("jina", "fastapi", "uvicorn", "sqlalchemy", "qdrant-client", "qdrant-edge-py", "mlflow-skinny", "wandb")
"""Packages that a GPU machine without a package index lacks."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a virtual environment with this one's packages but those of a server."""
    folder = tmp_path_factory.mktemp("without_jina") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = next((folder / "lib").glob("python3.*")) / "site-packages"
    here = Path(str(distribution("torch").locate_file("")))
    absent = {Path(str(file)).parts[0] for name in ABSENT for file in distribution(name).files or ()}
    for entry in here.iterdir():
        if entry.name not in absent and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    return folder / "bin/python"


def test_jina_is_absent(python: Path) -> None:
    found = subprocess.run([python, "-c", "import jina"], capture_output=True, text=True)
    assert "No module named 'jina'" in found.stderr


@pytest.mark.slow
def test_every_part_comes_to_its_end_on_a_cpu(python: Path, tmp_path: Path) -> None:
    command = [ROOT / "tests/gpu/check.sh", "--device", "cpu", "--tiny", "--out", tmp_path]
    run = subprocess.run(command, env=os.environ | {"PYTHON": str(python)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + (tmp_path / "log.txt").read_text()
    found = json.loads(run.stdout.splitlines()[-1])
    assert list(found) == list(PARTS)
    assert found == json.loads((tmp_path / "figures.json").read_text())
    assert found["clip_training"]["vs_bare_loop"] > 0
    assert found["clip_training"]["cache"]["pairs_per_second"] > 0
    assert found["encoding"]["re_encode"]["per_second"] > 0
    assert found["image_training"]["run"]["images_per_second"] > 0
    assert found["peers"]["open_clip_images_per_second"] > 0
    assert found[TESTS]["failed"] == []


@pytest.mark.slow
def test_a_part_that_takes_too_long_is_ended_and_said(python: Path, tmp_path: Path) -> None:
    command = [ROOT / "tests/gpu/check.sh", "--device", "cpu", "--tiny", "--out", tmp_path, "--seconds", "1"]
    run = subprocess.run(
        [*command, "clip_training", "peers"], env=os.environ | {"PYTHON": str(python)}, capture_output=True, text=True
    )
    assert run.returncode == 1
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["clip_training"]["error"] == "ended after 1 s"
    assert found["peers"] == {"error": "no time was left"}
