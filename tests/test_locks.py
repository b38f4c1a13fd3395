"""The lock files: what pyproject.toml declares, with hashes, and one ONNX Runtime each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SERVER, GPU, DEV = "requirements.lock", "requirements-gpu.lock", "requirements-dev.lock"
OF_IMAGES = ("server", "trackers", "postgres")
EXTRAS = {SERVER: OF_IMAGES, GPU: (*OF_IMAGES, "gpu"), DEV: ("dev",)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, str]:
    """Return the version of each package."""
    return dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def declared(extra: str) -> list[Requirement]:
    """Return the requirements of an extra, with those of the extras that it names."""
    found = [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    own = [each for each in found if each.name == PROJECT["name"]]
    return [each for each in found if each not in own] + [
        needed for each in own for name in each.extras for needed in declared(name)
    ]


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_fulfils_what_is_declared(lock: str) -> None:
    found = pins(lock)
    wanted = [*map(Requirement, PROJECT["dependencies"]), *(each for name in EXTRAS[lock] for each in declared(name))]
    for needed in wanted:
        name = re.sub(r"[-_.]+", "-", needed.name)
        if lock == GPU and name == "onnxruntime":
            continue  # onnxruntime-gpu has its module
        assert needed.specifier.contains(found[name]), needed


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_has_hashes_and_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock)) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index-url" not in text


def test_the_locks_differ_in_onnx_runtime_alone() -> None:
    server, gpu, dev = pins(SERVER), pins(GPU), pins(DEV)
    assert {**server, "onnxruntime-gpu": gpu["onnxruntime-gpu"]} == {**gpu, "onnxruntime": server["onnxruntime"]}
    assert "onnxruntime" not in gpu
    assert "onnxruntime-gpu" not in {**server, **dev}
    assert {name: dev[name] for name in server} == server
