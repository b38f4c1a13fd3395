"""Starting and stopping a Flow: ports, signals, and that no process is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from finetuner.contract.environment import FLOW_ID, FLOWS, TOKEN
from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.flow.launch import serve
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import configured, flow_file
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]

ROOMS = """
import numpy as np
from jina import Executor, requests
from prometheus_client import Counter


class Encoder(Executor):
    def __init__(self, workspace_url, **kwargs):
        super().__init__(**kwargs)
        if workspace_url.endswith("broken"):
            raise ValueError("as the test asked")

    @requests(on="/encode")
    def encode(self, docs, **_):
        for document in docs:
            document.embedding = np.ones(2)
"""


@pytest.fixture
def small_flow(tmp_path: Path) -> Path:
    """A Flow's YAML with two rooms that load no model."""
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "rooms.py").write_text(ROOMS)
    room = {
        "uses": "Encoder",
        "py_modules": str(folder / "rooms.py"),
        "uses_with": {"workspace_url": "workspace"},
        "host": "127.0.0.1",
        "monitoring": True,
    }
    content = {
        "jtype": "Flow",
        "version": "1",
        "gateway": {
            "uses": str(ROOT / "executors" / "gateway" / "config.yml"),
            "protocol": ["grpc", "http"],
            "port": [51000, 51001],
            "host": "127.0.0.1",
            "monitoring": True,
            "port_monitoring": 51100,
        },
        "executors": [
            {"name": "text_encoder", **room, "port_monitoring": 51101},
            {"name": "vision_encoder", **room, "port_monitoring": 51102},
        ],
    }
    path = folder / "finetuner.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes of the RunningFlow with this mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(FLOW_ID) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def none_left(mark: str, seconds: float = 0) -> bool:
    deadline = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def test_values_go_into_the_yaml(small_flow: Path, tmp_path: Path) -> None:
    with configured(small_flow, workspace=tmp_path / "elsewhere", grpc_port=0, http_port=0) as content:
        ports = [*content["gateway"]["port"], *(room["port_monitoring"] for room in content["executors"])]
    ports.append(content["gateway"]["port_monitoring"])
    assert len(set(ports)) == 5
    assert 0 not in ports
    assert not {51000, 51001, 51100, 51101, 51102} & set(ports)
    for room in content["executors"]:
        assert room["uses_with"]["workspace_url"] == str(tmp_path / "elsewhere")
    with configured(flow_file(), workspace=tmp_path, grpc_port=0, http_port=0) as content:
        assert Path(content["gateway"]["uses"]).is_absolute()


def test_ports_are_the_flows_until_it_ends(small_flow: Path, tmp_path: Path) -> None:
    with configured(small_flow, workspace=tmp_path, grpc_port=0, http_port=0) as content:
        ports = [*content["gateway"]["port"], *(room["port_monitoring"] for room in content["executors"])]
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="already in use"):
                other.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()  # it sets SO_REUSEADDR, as a room does
    for port in ports:
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))


def test_given_ports_are_kept(small_flow: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        wanted = [one.getsockname()[1], two.getsockname()[1]]
    with configured(small_flow, workspace=tmp_path, grpc_port=wanted[0], http_port=wanted[1]) as content:
        assert content["gateway"]["port"] == wanted


@pytest.mark.parametrize("option", ["--grpc-port", "--http-port"])
def test_a_port_that_is_taken_is_one_line(small_flow: Path, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"grpc_port": 0, "http_port": 0, option.strip("-").replace("-", "_"): port}
        with pytest.raises(InvalidInput, match=rf"Port {port} cannot be used.*{option}") as error:
            serve(small_flow, workspace=tmp_path, **ports)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(small_flow: Path, tmp_path: Path, port: int) -> None:
    settings = configured(small_flow, workspace=tmp_path, grpc_port=port, http_port=0)
    with pytest.raises(InvalidInput, match=r"0 .the system chooses. to 65535"), settings:
        pass


def test_other_machines_are_let_in_by_a_token_alone(
    small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_without_a_checkout_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FLOWS, str(tmp_path))
    with pytest.raises(InvalidInput, match="checkout"):
        flow_file()


def test_a_running_flow_is_healthy_inside_and_gone_outside(
    small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "of-another-flow")
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow, token="s3cret")
    with pytest.raises(InvalidInput, match="inside its `with` block"):
        _ = flow.host
    with flow:
        assert re.fullmatch(r"grpc://127\.0\.0\.1:\d+", flow.host)
        assert httpx.get(f"{flow.http}/healthz").status_code == 200
        assert httpx.post(f"{flow.http}/encode").status_code == 401
        answer = httpx.post(f"{flow.http}/encode", headers={"authorization": "token s3cret"})
        assert answer.status_code == 200
        assert set(flow.metrics) == {"gateway", "text_encoder", "vision_encoder"}
        assert all(httpx.get(url).status_code == 200 for url in flow.metrics.values())
        children = psutil.Process(flow.pid).children(recursive=True)
        found = [each for child in children for each in child.net_connections() if each.status == "LISTEN"]
        listening = [each.laddr.ip.removeprefix("::ffff:") for each in found]
        assert len(listening) >= 7, "two doors, two rooms, and the metrics of three"
        assert set(listening) == {"127.0.0.1"}
        assert flow.pid in {process.pid for process in marked(flow._mark)}
        assert len(marked(flow._mark)) >= 4
        log = flow.log.read_text()
        assert flow.host in log
        assert "Warning" not in log
        assert "s3cret" not in " ".join(psutil.Process(flow.pid).cmdline())
    assert none_left(flow._mark)
    assert not (tmp_path / "workspace" / "flow.json").exists()
    assert "Stopping the Flow" in flow.log.read_text()
    assert "Traceback" not in flow.log.read_text()


def test_a_killed_flow_frees_its_door_and_leaves_nothing(small_flow: Path, tmp_path: Path) -> None:
    with RunningFlow(tmp_path / "workspace", flow=small_flow) as flow:
        os.kill(flow.pid, signal.SIGKILL)
        wait_until(lambda: not listens(flow.http), "the door to close")
    assert none_left(flow._mark)


def test_a_room_that_fails_is_told_with_its_log(small_flow: Path, tmp_path: Path) -> None:
    flow = RunningFlow(tmp_path / "broken", flow=small_flow)
    with pytest.raises(FinetunerServerError, match="ended while it started") as error, flow:
        pass
    assert "as the test asked" in str(error.value)
    assert none_left(flow._mark)


def test_a_flow_that_is_not_healthy_in_time_is_stopped(small_flow: Path, tmp_path: Path) -> None:
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow, timeout=0.5)
    with pytest.raises(FinetunerServerError, match=r"not healthy within 0\.5 s"), flow:
        pass
    assert none_left(flow._mark)


@pytest.mark.parametrize("seconds", [0.3, 4])
def test_ctrl_c_while_it_starts_leaves_no_process(
    small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    def interrupted(_: RunningFlow) -> None:
        time.sleep(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunningFlow, "_wait", interrupted)
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow)
    with pytest.raises(KeyboardInterrupt), flow:
        pass
    assert none_left(flow._mark)


@pytest.fixture
def parent(small_flow: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A script with a RunningFlow that is up, and its mark."""
    script = (
        "import sys, time; from pathlib import Path; from finetuner.flow.running_flow import RunningFlow\n"
        f"with RunningFlow({str(tmp_path / 'workspace')!r}, flow=Path({str(small_flow)!r})) as flow:\n"
        "    print(flow._mark, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT)])}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    mark = process.stdout.readline().strip()
    try:
        assert mark
        yield process, mark
    finally:
        process.kill()
        process.wait()
        for left in marked(mark or "-"):
            left.kill()


def test_the_flow_ends_with_a_parent_that_is_killed(parent: tuple[subprocess.Popen[str], str]) -> None:
    process, mark = parent
    assert marked(mark)
    process.kill()
    assert none_left(mark, seconds=200)


def test_ctrl_c_in_the_parent_ends_the_flow(parent: tuple[subprocess.Popen[str], str]) -> None:
    process, mark = parent
    process.send_signal(signal.SIGINT)
    process.wait(200)
    assert none_left(mark)


def test_ctrl_c_ends_finetuner_up_in_order(small_flow: Path, tmp_path: Path) -> None:
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
