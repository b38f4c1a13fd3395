"""Measures training and serving on a CUDA machine, part by part, within a given time.

Each part is a process with a time limit; what it has printed counts even when it is ended. `figures.json` in the given
folder is written after each part, `log.txt` has the parts' other output. Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import clip_training, encoding, environment, image_training, peers
from tests.gpu.part import FULL, TINY, Part

HERE = Path(__file__).parent
LOG = "log.txt"
TESTS = "tests"
MODULES: Mapping[str, Any] = {
    "environment": environment,
    "clip_training": clip_training,
    "encoding": encoding,
    "image_training": image_training,
    "peers": peers,
}
PARTS: Mapping[str, int] = {  # in order of value; seconds at most
    "environment": 40,
    "clip_training": 165,
    "encoding": 210,
    TESTS: 80,
    "image_training": 90,
    "peers": 40,
}


def main() -> int:
    """Run the parts; return 0 if each came to its end and no test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes of a rehearsal")
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together")
    parser.add_argument("--out", type=Path, required=True, help="folder of figures.json and log.txt")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"PART must be of {', '.join(PARTS)}. Got {', '.join(sorted(unknown))}.")
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    found: dict[str, Any] = {}
    (given.out / LOG).unlink(missing_ok=True)
    part = Part(given.device, TINY if given.tiny else FULL)
    for name in given.parts or PARTS:
        limit = min(PARTS[name], end - time.monotonic())
        found[name] = _run(name, part, given.out, limit) if limit > 0 else {"error": "no time was left"}
        (given.out / "figures.json").write_text(json.dumps(found, indent=1))
        print(name, json.dumps(found[name]), flush=True)
    print(json.dumps(found))
    failed = any("error" in figures or figures.get("failed") for figures in found.values())
    return int(failed)


def _run(name: str, part: Part, out: Path, limit: float) -> dict[str, Any]:
    lines, report = out / f"{name}.jsonl", out / "tests.xml"
    started = time.monotonic()
    process = multiprocessing.get_context("fork").Process(target=_work, args=(name, part, lines, report, out / LOG))
    process.start()
    process.join(limit)
    ended = process.exitcode is not None
    if not ended and process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    figures = _tests(report) if name == TESTS else _lines(lines)
    figures["took_s"] = round(time.monotonic() - started, 1)
    if not ended:
        figures["error"] = f"ended after {limit:.0f} s"
    elif process.exitcode and name != TESTS:
        figures["error"] = f"exit code {process.exitcode}"
    return figures


def _work(name: str, part: Part, lines: Path, report: Path, log: Path) -> None:
    """Run a part in this process, which the fork has made: it need not import everything again."""
    os.setsid()
    with open(lines, "wb") as output, open(log, "ab") as errors:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    if name == TESTS:
        options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={HERE}", f"--junitxml={report}", "-m", "gpu"]
        sys.exit(pytest.main([*options, str(HERE)]))
    for label, value in MODULES[name].figures(part):
        print(json.dumps({label: value}), flush=True)


def _lines(file: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for line in file.read_text().splitlines():
        if line.startswith("{"):
            figures |= json.loads(line)
    return figures


def _tests(report: Path) -> dict[str, Any]:
    """Return the counts of tests, the names of those that failed, and the figures that they recorded."""
    if not report.exists():
        return {"failed": ["no report"]}
    cases = list(ET.parse(report).iter("testcase"))
    failed = [
        case.attrib["name"] for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    figures = {
        f"{case.attrib['name']}: {entry.attrib['name']}": float(f"{float(entry.attrib['value']):.3g}")
        for case in cases
        for entry in case.iter("property")
    }
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed, "figures": figures}


if __name__ == "__main__":
    sys.exit(main())
