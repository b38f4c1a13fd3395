"""Artifacts as zips, to and from the real Flow: by the client, and far larger than what the Flow may hold of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import finetuner
from finetuner.artifacts.manifest import MANIFEST, sha256_of
from finetuner.cli.main import app
from finetuner.exceptions import ArtifactNotFound, InvalidInput
from finetuner.flow.running_flow import RunningFlow
from finetuner.workspace.folder import Workspace
from tests.gateway.made_artifacts import make_artifact

from .peaks import Peaks

MB = 10**6
BLOCK = 2**20


def from_file(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            yield block


def there_and_back(flow: RunningFlow, artifact_id: str, size: int, scratch: Path) -> int:
    """Send an artifact down and up; return how much memory that took, as `Peaks` counts."""
    folder = make_artifact(Workspace(flow.workspace).artifacts / artifact_id, artifact_id, size)
    expected = {path.relative_to(folder): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    peaks, started, received = Peaks(flow), time.monotonic(), 0
    with httpx.stream("GET", f"{flow.http}/v1/artifacts/{artifact_id}/zip", timeout=600) as answer:
        assert answer.status_code == 200
        with open(scratch / "down.zip", "wb") as file:
            for block in answer.iter_bytes(BLOCK):
                received += file.write(block)
    assert received == int(answer.headers["content-length"]) > size
    down, seconds = peaks.growth(), time.monotonic() - started
    print(f"{size / MB:.0f} MB down in {seconds:.1f} s, {down / MB:.0f} MB more at the peak")
    folder.rename(scratch / "before")
    started = time.monotonic()
    answer = httpx.post(
        f"{flow.http}/v1/artifacts",
        content=from_file(scratch / "down.zip"),
        headers={"content-type": "application/zip", "content-length": str(received)},
        timeout=600,
    )
    assert answer.status_code == 200, answer.text
    up, seconds = peaks.growth(), time.monotonic() - started
    print(f"{size / MB:.0f} MB up in {seconds:.1f} s, {up / MB:.0f} MB more at the peak of both")
    assert answer.json()["artifact_id"] == artifact_id
    assert {path.relative_to(folder): sha256_of(path) for path in folder.rglob("*") if path.is_file()} == expected
    assert (folder / MANIFEST).read_bytes() == (scratch / "before" / MANIFEST).read_bytes()
    return up


@pytest.mark.slow
def test_an_artifact_is_never_held_as_a_whole(flow: RunningFlow, tmp_path: Path) -> None:
    assert there_and_back(flow, "c" * 24, 200 * MB, tmp_path) < 150 * MB


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_gigabytes_take_less_than_200_megabytes(flow: RunningFlow, tmp_path: Path) -> None:
    assert there_and_back(flow, "d" * 24, 2000 * MB, tmp_path) < 200 * MB


def test_the_client_sends_and_fetches(flow: RunningFlow, tmp_path: Path) -> None:
    finetuner.login(host=flow.host)
    folder, artifact_id = make_artifact(tmp_path / "made", "e" * 24, 3 * MB), "e" * 24
    assert finetuner.push_artifact(str(folder))["artifact_id"] == artifact_id
    fetched = finetuner.pull_artifact(artifact_id, str(tmp_path / "fetched"))
    assert fetched == str(tmp_path / "fetched" / "made.zip")
    assert finetuner.push_artifact(fetched) in [
        {name: value for name, value in entry.items() if name != "aliases"} for entry in finetuner.list_artifacts()
    ]
    with pytest.raises(ArtifactNotFound, match="artifact must be a folder with manifest.json"):
        finetuner.push_artifact(str(tmp_path / "nothing"))
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(InvalidInput, match="artifact must be a zip"):
        finetuner.push_artifact(str(tmp_path / "text.zip"))


def test_the_command_line_sends_and_fetches(flow: RunningFlow, tmp_path: Path) -> None:
    made = make_artifact(tmp_path / "made", "c0ffee" * 4)
    pushed = CliRunner().invoke(app, ["artifact", "push", str(made), "--host", flow.host])
    assert (pushed.exit_code, pushed.stdout) == (0, "c0ffee" * 4 + "\n")
    pulled = CliRunner().invoke(app, ["artifact", "pull", "c0ffee" * 4, str(tmp_path), "--host", flow.host])
    assert (pulled.exit_code, pulled.stdout) == (0, str(tmp_path / "made.zip") + "\n")
    assert (tmp_path / "made.zip").is_file()
