"""`finetuner up`: refused settings, and an orderly stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from finetuner.contract.environment import FLOWS, TOKEN
from finetuner.exceptions import InvalidInput
from finetuner.flow.launch import own_rooms, serve
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file, load_flow
from finetuner.transport.probes import FLOW_FILE
from finetuner.workspace.folder import LAYOUT_FILE
from tests.ports import held_ports
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port"])
def test_a_taken_port_is_a_one_line_error(small_flow: Path, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"grpc_port": 0, "http_port": 0, option.strip("-").replace("-", "_"): port}
        with pytest.raises(InvalidInput, match=rf"Port {port} cannot be used.*{option}") as error:
            serve(small_flow, workspace=tmp_path, **ports)
    assert "\n" not in str(error.value)


def test_a_workspace_of_a_newer_version_is_left_alone(small_flow: Path, tmp_path: Path) -> None:
    (tmp_path / LAYOUT_FILE).write_text('{"layout": 99, "version": "7.0.0"}')
    with pytest.raises(InvalidInput, match=r"the workspace must have layout 1, .* Got 99, of 7\.0\.0"):
        serve(small_flow, workspace=tmp_path, grpc_port=0, http_port=0)


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


def test_the_packages_rooms_are_known_in_a_checkout_too(small_flow: Path, tmp_path: Path) -> None:
    """They fork from a process that has imported torch. In a checkout, `executors/` is a link."""
    content = load_flow(flow_file(), tmp_path)
    assert own_rooms(content) == {"trainer", "evaluator", "text_encoder", "vision_encoder", "indexer"}
    assert own_rooms(load_flow(small_flow, tmp_path)) == set()


def start(small_flow: Path, workspace: Path, *options: str, **pipes: Any) -> subprocess.Popen[str]:
    """Start `finetuner up` in a session of its own."""
    environment = {**os.environ, FLOWS: str(small_flow.parent)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "client"), str(ROOT)])
    command = [sys.executable, "-m", "finetuner.cli", "up", *options, "--workspace", str(workspace)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | pipes
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


ANY_PORTS = ("--grpc-port", "0", "--http-port", "0")


def test_ctrl_c_stops_finetuner_up_in_order(small_flow: Path, tmp_path: Path) -> None:
    process = start(small_flow, tmp_path / "workspace", *ANY_PORTS)
    assert process.stdout is not None
    assert any("Open Finetuner is up." in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process at once
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "Stopping the Flow" in output
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output


@pytest.mark.slow
def test_json_is_one_line_on_stdout_and_the_content_of_flow_json(small_flow: Path, tmp_path: Path) -> None:
    process = start(small_flow, tmp_path / "workspace", *ANY_PORTS, "--json", stderr=subprocess.PIPE)
    assert process.stdout is not None
    described = json.loads(process.stdout.readline())
    assert described == json.loads((tmp_path / "workspace" / FLOW_FILE).read_text())
    assert set(described) == {"pid", "grpc", "http", "metrics"}
    assert described["pid"] == process.pid
    assert httpx.get(f"{described['http']}/dry_run").json()["code"] == 0
    process.terminate()
    output, messages = process.communicate(timeout=200)
    assert (output, process.returncode) == ("", 0)
    assert "Stopping the Flow" in messages
    assert not (tmp_path / "workspace" / FLOW_FILE).exists()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.slow
def test_two_flows_started_at_the_same_moment(small_flow: Path, tmp_path: Path, same: bool) -> None:
    """With the same ports, one of them is refused in one line. With others, both are up."""
    with held_ports(4) as free:
        ports = [free[:2], free[:2] if same else free[2:]]
    folders = [tmp_path / "first", tmp_path / "second"]
    both = [
        start(small_flow, folder, "--grpc-port", str(grpc), "--http-port", str(http))
        for folder, (grpc, http) in zip(folders, ports, strict=True)
    ]

    def decided(number: int) -> bool:
        return (folders[number] / FLOW_FILE).exists() or both[number].poll() is not None

    wait_until(lambda: decided(0) and decided(1), "both Flows")
    refused = [process for process in both if process.poll() is not None]
    assert len(refused) == same
    for process in both:
        process.terminate()
    for process in both:
        output, _ = process.communicate(timeout=200)
        assert "Traceback" not in output
        if process in refused:
            assert output.count("\n") == 1
            assert "cannot be used: Address already in use." in output


@pytest.mark.slow
def test_the_file_of_another_flow_stays(small_flow: Path, tmp_path: Path) -> None:
    """A Flow in the same workspace that ends must not take the address of the first with it."""
    workspace = tmp_path / "workspace"
    with RunningFlow(workspace, flow=small_flow) as running:
        broken = small_flow.with_name("broken.yml")
        broken.write_text(small_flow.read_text().replace("uses: Encoder", "uses: Missing"))
        process = start(small_flow, workspace, *ANY_PORTS, "--flow", "broken")
        process.communicate(timeout=200)
        assert process.returncode == 1
        assert json.loads((workspace / FLOW_FILE).read_text())["grpc"] == running.host
