"""Runs pytest, then each failed test once more, alone: `python -m tests.twice PYTEST_ARGUMENTS`.

A test that fails twice ends it with pytest's exit code. One that passes alone is printed as FLAKY and counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30  # free
MOST = 20  # more failures are no flakiness, and would take too long


def main(arguments: list[str]) -> int:
    """Return pytest's exit code: of the second run, if there is one."""
    environment = os.environ | _files_in_memory()
    with TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pytest", *arguments, "-o", f"cache_dir={cache}"]
        code = subprocess.call(command, env=environment)
        first = _failed(cache)
        of_tests = all("::" in name for name in first)  # otherwise a file could not be read
        if code != pytest.ExitCode.TESTS_FAILED or not of_tests or not 0 < len(first) <= MOST:
            return code
        print(f"\nOnce more, alone: {len(first)} failed", flush=True)
        again = [*command, "-n", "0", "--last-failed", "--last-failed-no-failures", "none"]
        code = subprocess.call(again, env=environment)
        flaky = sorted(first - _failed(cache)) if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else []
    for name in flaky:
        print(f"FLAKY {name}")
    print(f"{len(flaky)} flaky", flush=True)
    return code


def _files_in_memory() -> dict[str, str]:
    """Return the variable that keeps the files of tests in memory where that is free: a third of a test's time is disk.

    A folder of the user's choice stays.
    """
    free = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return {"PYTEST_DEBUG_TEMPROOT": os.environ.get("PYTEST_DEBUG_TEMPROOT", str(MEMORY))} if free else {}


def _failed(cache: str) -> set[str]:
    try:
        return set(json.loads((Path(cache) / "v" / "cache" / "lastfailed").read_text()))
    except FileNotFoundError:
        return set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
