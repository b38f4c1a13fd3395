"""A Flow in a child process: healthy inside its block, and no process left after it."""

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

from finetuner.contract.environment import FLOW_ID, TOKEN
from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.flow.running_flow import RunningFlow
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


def processes_of(flow_id: str) -> list[psutil.Process]:
    """Return the processes of the RunningFlow with this id."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(FLOW_ID) == flow_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def none_left(flow_id: str, seconds: float = 0) -> bool:
    deadline = time.monotonic() + seconds
    while processes_of(flow_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def test_a_flow_is_healthy_inside_its_block_and_gone_after_it(
    small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "of-another-flow")
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow, token="s3cret-token")
    with pytest.raises(InvalidInput, match="inside its `with` block"):
        _ = flow.host
    with flow:
        assert re.fullmatch(r"grpc://127\.0\.0\.1:\d+", flow.host)
        assert httpx.get(f"{flow.http}/healthz").status_code == 200
        assert httpx.post(f"{flow.http}/encode").status_code == 401
        answer = httpx.post(f"{flow.http}/encode", headers={"authorization": "token s3cret-token"})
        assert answer.status_code == 200
        assert set(flow.metrics) == {"gateway", "text_encoder", "vision_encoder"}
        assert all(httpx.get(url).status_code == 200 for url in flow.metrics.values())
        children = psutil.Process(flow.pid).children(recursive=True)
        found = [each for child in children for each in child.net_connections() if each.status == "LISTEN"]
        listening = [each.laddr.ip.removeprefix("::ffff:") for each in found]
        assert len(listening) >= 7, "two ports of the gateway, two rooms, and three metrics ports"
        assert set(listening) == {"127.0.0.1"}
        assert flow.pid in {process.pid for process in processes_of(flow._flow_id)}
        assert len(processes_of(flow._flow_id)) >= 4
        log = flow.log.read_text()
        assert flow.host in log
        assert "Warning" not in log
        assert "s3cret" not in " ".join(psutil.Process(flow.pid).cmdline())
    assert none_left(flow._flow_id)
    assert not (tmp_path / "workspace" / "flow.json").exists()
    assert "Stopping the Flow" in flow.log.read_text()
    assert "Traceback" not in flow.log.read_text()


@pytest.mark.slow
def test_a_killed_flow_frees_its_ports_and_leaves_no_process(small_flow: Path, tmp_path: Path) -> None:
    with RunningFlow(tmp_path / "workspace", flow=small_flow) as flow:
        os.kill(flow.pid, signal.SIGKILL)
        wait_until(lambda: not listens(flow.http), "the port to close")
    assert none_left(flow._flow_id)


def test_a_failed_room_is_an_error_with_the_log(small_flow: Path, tmp_path: Path) -> None:
    flow = RunningFlow(tmp_path / "broken", flow=small_flow)
    with pytest.raises(FinetunerServerError, match="ended while it started") as error, flow:
        pass
    assert "as the test asked" in str(error.value)
    assert none_left(flow._flow_id)


def test_a_flow_that_is_not_healthy_in_time_is_stopped(small_flow: Path, tmp_path: Path) -> None:
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow, timeout=0.5)
    with pytest.raises(FinetunerServerError, match=r"not healthy within 0\.5 s"), flow:
        pass
    assert none_left(flow._flow_id)


@pytest.mark.parametrize("seconds", [0.3, pytest.param(4, marks=pytest.mark.slow)])
def test_ctrl_c_during_the_start_leaves_no_process(
    small_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    def interrupted(_: RunningFlow) -> None:
        time.sleep(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunningFlow, "_wait", interrupted)
    flow = RunningFlow(tmp_path / "workspace", flow=small_flow)
    with pytest.raises(KeyboardInterrupt), flow:
        pass
    assert none_left(flow._flow_id)


@pytest.fixture
def parent(small_flow: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A script with a RunningFlow, and the id of its Flow."""
    script = (
        "import sys, time; from pathlib import Path; from finetuner.flow.running_flow import RunningFlow\n"
        f"with RunningFlow({str(tmp_path / 'workspace')!r}, flow=Path({str(small_flow)!r})) as flow:\n"
        "    print(flow._flow_id, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT)])}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    flow_id = process.stdout.readline().strip()
    try:
        assert flow_id
        yield process, flow_id
    finally:
        process.kill()
        process.wait()
        for left in processes_of(flow_id or "-"):
            left.kill()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["SIGKILL", "SIGTERM"]
)
def test_the_flow_ends_with_its_parent(parent: tuple[subprocess.Popen[str], str], number: signal.Signals) -> None:
    process, flow_id = parent
    assert processes_of(flow_id)
    process.send_signal(number)
    assert none_left(flow_id, seconds=200)


@pytest.mark.slow
def test_ctrl_c_in_the_parent_ends_the_flow(parent: tuple[subprocess.Popen[str], str]) -> None:
    process, flow_id = parent
    process.send_signal(signal.SIGINT)
    process.wait(200)
    assert none_left(flow_id)
