"""`finetuner demo`, smaller: what it writes, and what it leaves behind when it is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-m", "finetuner.cli", "demo", "--items", "24", "--epochs", "1"]
MARK = "FINETUNER_TEST_DEMO"


def processes_of(mark: str) -> list[psutil.Process]:
    """Return every process that inherited the mark, also those in sessions of their own."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_the_demo_writes_report_and_summary_and_stops_everything(tmp_path: Path) -> None:
    environment = os.environ | {MARK: str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "--out", str(tmp_path / "demo")], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert processes_of(str(tmp_path)) == []
    assert "text to image, R@5" in done.stdout
    assert re.search(r"\d+ of \d+ metrics are better than before", done.stdout)
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert re.fullmatch("[0-9a-f]{24}", summary["artifact_id"])
    assert set(summary["languages"]) == {"en", "de"}
    assert 0 < summary["chance_recall_at_5"] < 0.05
    for figures in summary["languages"].values():
        assert 0 <= figures["before"] <= 1
        assert 0 <= figures["after"] <= 1
    assert {"start", "push", "fit", "promote", "index", "search", "total"} <= set(summary["seconds"])
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count('<section class="query">') == 10
    assert report.count("data:image/jpeg;base64,") == 100
    assert not re.search(r'(?:src|href)="(?!data:)', report), "the page must need nothing else"
    assert "<polyline" in report


@pytest.mark.slow
def test_ctrl_c_while_it_trains_leaves_no_process(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*COMMAND[:-1], "500", "--out", str(tmp_path / "demo")],
        env=os.environ | {MARK: str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        runs = tmp_path / "demo" / "workspace" / "runs"
        deadline = time.monotonic() + 300
        while not list(runs.glob("*/process.json")) and time.monotonic() < deadline:
            assert demo.poll() is None
            time.sleep(0.2)
        assert len(processes_of(str(tmp_path))) > 6
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        _, errors = demo.communicate(timeout=200)
        assert demo.returncode != 0
        assert b"Traceback" not in errors
        assert processes_of(str(tmp_path)) == []
    finally:
        for process in processes_of(str(tmp_path)):
            process.kill()
        demo.wait()
