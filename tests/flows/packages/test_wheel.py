"""The wheel: its content, a client beside today's libraries, and a Flow outside of any checkout."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from finetuner.flow.running_flow import RunningFlow

from .conftest import UV, Use

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TODAY = ["pydantic>=2.12", "protobuf>=6", "numpy>=2.2", "grpcio", "openai", "fastapi"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    made = subprocess.run(
        [UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_has_everything_below_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"finetuner"}
    folders = {ROOT / "client" / "finetuner": "", ROOT / "executors": "executors/", ROOT / "flows": "flows/"}
    expected = {
        f"finetuner/{place}{path.relative_to(folder)}"
        for folder, place in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != ".env"
    }
    assert expected <= set(names)
    assert not [name for name in names if name.endswith((".pyc", "/.env"))]


def test_a_client_needs_no_jina(flow: RunningFlow, wheel: Path, use: Use, tmp_path: Path) -> None:
    found = use("use_client", [str(wheel), *TODAY], flow.host, HOME=str(tmp_path))
    checked = subprocess.run([UV, "pip", "check", "--python", found["python"]], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert found["lazy"] == []
    assert not found["jina"]
    assert found["pydantic"] >= "2.12"
    assert found["pulled"]
    assert (found["run"], found["lines"] > 3) == ("FINISHED", True)
    assert found["matches"][0].startswith("wheel-")
    assert "'limit' must be" in found["refusal"]


def test_a_flow_starts_from_the_wheel(wheel: Path, use: Use, tmp_path: Path) -> None:
    packages = ["--constraints", str(ROOT / "requirements.lock"), f"open-finetuner[server] @ {wheel.as_uri()}"]
    found = use("use_server", packages, str(tmp_path), HOME=str(tmp_path))
    assert found["package"].endswith("site-packages/finetuner")
    assert found["flow"] == f"{found['package']}/flows/finetuner.yml"
    assert found["report"]
    assert found["mine"]
    assert found["metrics"] == ["after", "before"]
    assert found["shape"] == [128]
