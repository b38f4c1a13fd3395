"""The checks of a Flow's ports, health and token."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from finetuner.doctor import flow_check
from finetuner.doctor.finding import Finding, Status
from finetuner.workspace.tokens import TokenFile
from tests.client.doctor.conftest import answering, one


def statuses(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.name: str(finding.status) for finding in findings}


def test_ports(tmp_path: Path, unused_port: int, impatient: None) -> None:
    assert statuses(flow_check.ports(tmp_path, 0, unused_port)) == {"grpc port": "ok", "http port": "ok"}
    with socket.create_server(("127.0.0.1", 0)) as taken:  # it accepts and never answers
        port = taken.getsockname()[1]
        found = one(flow_check.ports(tmp_path, port, 0), "grpc port")
        assert found.status is Status.FAILED
        assert found.found == f"{port} cannot be used: Address already in use"
        assert "--grpc-port" in found.advice
        addresses = {
            "pid": os.getpid(),
            "grpc": f"grpc://127.0.0.1:{port}",
            "http": "http://127.0.0.1:1",
            "metrics": {},
        }
        (tmp_path / "flow.json").write_text(json.dumps(addresses))
        assert one(flow_check.ports(tmp_path, port, 0), "grpc port").status is Status.OK


def test_the_port_of_another_workspaces_flow_is_ok(tmp_path: Path) -> None:
    with answering("unavailable", status=503) as address:
        found = one(flow_check.ports(tmp_path, 0, int(address.rpartition(":")[2])), "http port")
    assert found.status is Status.OK
    assert found.found.endswith("is in use by a running Flow")


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [("ok", 200, "ok"), ("degraded", 200, "warning"), ("unavailable", 503, "failed"), ("", 200, "failed")],
)
def test_health(tmp_path: Path, state: str, status: int, expected: str) -> None:
    with answering(state, status=status) as address:
        found = list(flow_check.flow(tmp_path, address))
    assert statuses(found) == {"Flow, HTTP": expected, "token": "ok"}
    if state not in ("", "ok"):
        assert f"is {state}: text encoder: no answer" in found[0].found


def test_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TokenFile(tmp_path)
    secret = file.create("anna", "write", 30)
    with answering("ok", token=secret) as address:
        monkeypatch.setenv("FINETUNER_HOST", address)
        none = one(flow_check.flow(tmp_path), "token")
        assert none.status is Status.FAILED
        assert "FINETUNER_TOKEN" in none.advice
        assert one(flow_check.flow(tmp_path, token="another"), "token").status is Status.FAILED
        broken = one(flow_check.flow(tmp_path, token="s3cret\n"), "token")
        assert broken.status is Status.FAILED
        assert "s3cret" not in str(broken)
        monkeypatch.setenv("FINETUNER_TOKEN", secret)
        accepted = one(flow_check.flow(tmp_path), "token")
        assert accepted.status is Status.OK
        assert "the Flow accepts it: anna, write, valid, until " in accepted.found
        assert secret not in str(accepted)


def test_a_flow_that_does_not_answer_fails(tmp_path: Path, unused_port: int) -> None:
    found = list(flow_check.flow(tmp_path, f"grpc://127.0.0.1:{unused_port}"))
    assert statuses(found) == {"Flow, gRPC": "failed", "Flow, HTTP": "ok"}
    assert f"grpc://127.0.0.1:{unused_port}. None does: " in found[0].found
    assert found[1].found.startswith("not checked")
    (down,) = flow_check.flow(tmp_path, f"http://127.0.0.1:{unused_port}")
    assert (down.name, down.status) == ("Flow, HTTP", Status.FAILED)


def test_flow_json_of_a_killed_flow_is_a_warning(tmp_path: Path, unused_port: int) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    where = f"127.0.0.1:{unused_port}"
    content = {"grpc": f"grpc://{where}", "http": f"http://{where}", "metrics": {}}
    for pid, expected in ((gone.pid, "warning"), (os.getpid(), "failed")):
        (tmp_path / "flow.json").write_text(json.dumps({"pid": pid, **content}))
        assert statuses(flow_check.flow(tmp_path)) == {"Flow, gRPC": expected, "Flow, HTTP": expected}
    (tmp_path / "flow.json").write_text("{")
    assert one(flow_check.flow(tmp_path)).found.startswith("not checked")
