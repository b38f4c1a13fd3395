"""Published packages, each in a virtual environment of its own: our pins would forbid most of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

UV = Path(sys.executable).with_name("uv")

Use = Callable[..., Any]


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that installs packages into a new environment and returns its folder of programs."""

    def installed(name: str, *packages: str) -> Path:
        folder = tmp_path_factory.mktemp("environments") / name
        for command in (["venv", "--python", sys.executable], ["pip", "install", *packages, "--python"]):
            made = subprocess.run([UV, "--quiet", *command, folder], capture_output=True, text=True, timeout=500)
            assert made.returncode == 0, made.stderr
        return folder / "bin"

    return installed


@pytest.fixture(scope="session")
def use(install: Callable[..., Path]) -> Use:
    """Return a function that runs a script of this folder with packages, and returns the JSON that it prints."""

    def used(script: str, packages: list[str], *arguments: str, **environment: str) -> Any:
        programs = install(script, *packages)
        path = {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [programs / "python", "-W", "ignore", Path(__file__).with_name(f"{script}.py"), *arguments],
            capture_output=True,
            text=True,
            env=clean | path | environment,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return used
