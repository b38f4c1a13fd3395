"""MLflow as it is published today opens the files of a run by the command of the run's log.

It cannot log them: it needs pydantic 2.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import held_ports
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def logged(folder: Path) -> str:
    """Log a run in a process of its own, and return the command of its log."""
    script = Path(__file__).with_name("use_mlflow.py")
    start = "import logging, runpy, sys; logging.basicConfig(level='INFO'); runpy.run_path(sys.argv.pop(1))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT / "client", ROOT]))}
    environment.pop("MLFLOW_TRACKING_URI", None)
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", start, script, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: str
    (found,) = re.findall(r"MLflowLogger: .*mlflow-skinny alone: (.*)", done.stderr)
    return found


def shown(command: str, programs: Path, port: int) -> list[dict[str, Any]]:
    """Run the command of the log, and return the runs that its server lists."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec env {command} --port {port} --workers 1"],
        env=os.environ | {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])},
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"

    def up() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{address}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(up, "MLflow's page")
        assert "<html" in httpx.get(address).text
        api = f"{address}/api/2.0/mlflow"
        experiments = httpx.post(f"{api}/experiments/search", json={"max_results": 10}).json()["experiments"]
        asked = {"experiment_ids": [each["experiment_id"] for each in experiments], "max_results": 10}
        runs: list[dict[str, Any]] = httpx.post(f"{api}/runs/search", json=asked).json()["runs"]
        return runs
    finally:
        process.terminate()
        process.wait(60)


def test_mlflow(install: Callable[..., Path], tmp_path: Path) -> None:
    programs = install("mlflow", "mlflow")
    command = logged(tmp_path / "run")
    with held_ports(1) as (port,):
        (run,) = shown(command, programs, port)
    assert (run["info"]["status"], run["data"]["metrics"][0]["value"]) == ("FINISHED", 0.25)
