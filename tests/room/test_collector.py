"""Memory that was freed between blocks in use goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

HELD = """
import ctypes, psutil, time
from finetuner.executors.room import collector

def megabytes():
    return psutil.Process().memory_info().rss / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = megabytes()
collector.TRIM_SECONDS, collector.TRIMS = 0.01, 10_000
if TRIMMED:
    collector.keep_trimmed()
blocks = [libc.malloc(4000) for _ in range(50_000)]
for block in blocks:
    ctypes.memset(block, 1, 4000)
for number, block in enumerate(blocks):
    if number % 50:
        libc.free(block)
deadline = time.monotonic() + 60
while TRIMMED and megabytes() > before + 50 and time.monotonic() < deadline:
    time.sleep(0.01)
print(megabytes() - before)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is of glibc")
@pytest.mark.parametrize("trimmed", [False, True])
def test_freed_memory_goes_back(trimmed: bool) -> None:
    code = HELD.replace("TRIMMED", str(trimmed))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert (float(done.stdout) < 50) == trimmed, "200 MB were taken, and all but one block of fifty freed"
