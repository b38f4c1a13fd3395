"""`finetuner up`: refused settings, and an orderly stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from finetuner.contract.environment import FLOWS, TOKEN
from finetuner.exceptions import InvalidInput
from finetuner.flow.launch import serve

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port"])
def test_a_taken_port_is_a_one_line_error(small_flow: Path, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"grpc_port": 0, "http_port": 0, option.strip("-").replace("-", "_"): port}
        with pytest.raises(InvalidInput, match=rf"Port {port} cannot be used.*{option}") as error:
            serve(small_flow, workspace=tmp_path, **ports)
    assert "\n" not in str(error.value)


def test_other_machines_need_a_token(small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    content = yaml.safe_load(small_flow.read_text())
    content["gateway"]["host"] = "0.0.0.0"
    wide = small_flow.with_name("wide.yml")
    wide.write_text(yaml.safe_dump(content, sort_keys=False))
    for flow, bind in ((small_flow, "0.0.0.0"), (wide, None)):
        with pytest.raises(InvalidInput, match=r"--bind must be 127\.0\.0\.1 while there is no token") as error:
            serve(flow, workspace=tmp_path / "w", grpc_port=0, http_port=0, bind=bind)
        assert f"`finetuner token create NAME --role admin --workspace {tmp_path / 'w'}`" in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "w" / "flow.json").exists()


def test_ctrl_c_stops_finetuner_up_in_order(small_flow: Path, tmp_path: Path) -> None:
    environment = {**os.environ, FLOWS: str(small_flow.parent)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "client"), str(ROOT)])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "finetuner.cli",
            "up",
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            "--workspace",
            str(tmp_path / "workspace"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / "workspace" / "flow.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process at once
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "Open Finetuner is up." in output
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output
