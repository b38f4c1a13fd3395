"""`finetuner doctor`: the order of the checks, the report, and errors inside a check."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finetuner.cli.main import app
from finetuner.doctor import doctor, machine_check, workspace_check
from finetuner.doctor.finding import Finding, Status, ok, warning
from finetuner.exceptions import InvalidInput
from tests.client.doctor.conftest import answering, one

FINETUNER = Path(sys.executable).with_name("finetuner")
NAMES = ["Python", "packages", "GPU", "ONNX Runtime", "memory", "disk", "temporary", "grpc port", "http port"]
NAMES += ["workspace", "clock", "database", "weights", "Flow"]


@pytest.mark.process
def test_the_command_reports_on_a_client_and_leaves_nothing(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    (client / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        [str(FINETUNER), "doctor", "--json", "--grpc-port", "0", "--http-port", "0"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(client), os.environ.get("PYTHONPATH", "")])},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [check["name"] for check in report["checks"]] == NAMES
    assert all(set(check) == {"name", "status", "found", "advice"} for check in report["checks"])
    assert all(bool(check["advice"]) is (check["status"] != "ok") for check in report["checks"])
    found = {check["name"]: check for check in report["checks"]}
    assert found["workspace"]["found"] == f"{folder / 'workspace'} does not exist yet and can be created"
    assert "torch is not installed" in found["GPU"]["found"]
    assert found["Flow"]["found"].startswith("not checked: neither --host nor $FINETUNER_HOST is set")
    assert list(folder.iterdir()) == []


def test_the_command_fails_if_a_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None, unused_port: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "workspace"
    file.write_text("a file")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--workspace", str(file), "--http-port", str(port), "--grpc-port", str(unused_port)]
        done = CliRunner().invoke(app, ["doctor", *options])
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(f"ok       grpc port      {unused_port} is free") for line in lines)
    assert any(line.startswith(f"failed   http port      {port} cannot be used") for line in lines)
    assert any(line.startswith("failed   workspace ") for line in lines)
    assert lines[-1].endswith("2 failed")
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]


def test_an_error_in_a_check_is_a_finding_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> Iterator[Finding]:
        yield ok("GPU", "one")
        raise RuntimeError("the driver\nhangs")

    def refuses(*_: object) -> Iterator[Finding]:
        raise InvalidInput("one sentence")

    monkeypatch.setattr(machine_check, "gpu", breaks)
    monkeypatch.setattr(workspace_check, "clock", refuses)
    found = list(doctor.examine(tmp_path, grpc_port=0, http_port=0))
    gpu = [finding for finding in found if finding.name == "GPU"]
    assert [finding.status for finding in gpu] == [Status.OK, Status.FAILED]
    assert gpu[1].found == "RuntimeError: the driver hangs"
    assert one(found, "clock") == Finding("clock", Status.FAILED, "one sentence", "Correct the value in the message.")
    assert [finding.name for finding in found if finding.name != "GPU"] == [name for name in NAMES if name != "GPU"]


def test_warnings_alone_do_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report([ok("clock", "now"), warning("GPU", "[none]", "Buy one.")])
    printed = capsys.readouterr().out
    assert "-> Buy one." in printed
    assert "[none]" in printed, "no markup"
    assert "1 ok, 1 warning, 0 failed" in printed


def test_prints_of_libraries_do_not_reach_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty() -> Iterator[Finding]:
        print("Welcome!")
        yield ok("clock", "now")

    assert doctor.report(chatty(), as_json=True)
    assert json.loads(capsys.readouterr().out)["checks"][0]["status"] == "ok"


def test_an_invalid_host_is_a_finding(tmp_path: Path) -> None:
    found = one(doctor.examine(tmp_path, host="ftp://x", grpc_port=0, http_port=0), "Flow")
    assert found.status is Status.FAILED
    assert "Got 'ftp://x'" in found.found


def test_an_invalid_http_address_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_HTTP", "127.0.0.1:51001")
    with answering("ok") as address:
        found = one(doctor.examine(tmp_path, host=address, grpc_port=0, http_port=0), "Flow")
    assert found.status is Status.FAILED
    assert "Got '127.0.0.1:51001'" in found.found
