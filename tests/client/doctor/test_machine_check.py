"""The checks of GPU, memory and disk."""

from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from finetuner.doctor import machine_check
from finetuner.doctor.finding import GIB, Status, ok
from tests.client.doctor.conftest import one

Usage = namedtuple("Usage", "total used free")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_driver_without_a_device_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine_check, "DRIVER", tmp_path / "version")
    assert one(machine_check.gpu()) == ok("GPU", "none, the CPU trains and encodes")
    (tmp_path / "version").touch()
    found = one(machine_check.gpu())
    assert found.status is Status.WARNING
    assert "--gpus all" in found.advice


def test_a_client_without_torch_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes its import fail
    assert one(machine_check.gpu()).status is Status.OK


@pytest.mark.parametrize(
    ("has", "packages", "driver", "status", "words"),
    [
        (["CPU"], ["onnxruntime"], False, Status.OK, "CPU"),
        (["Tensorrt", "CUDA", "CPU"], ["onnxruntime-gpu"], True, Status.OK, "Tensorrt, CUDA, CPU"),
        (["CPU"], ["onnxruntime"], True, Status.WARNING, "runs on the CPU beside a GPU"),
        (["CPU"], ["onnxruntime", "onnxruntime-gpu"], True, Status.WARNING, "both installed, and share a module"),
    ],
)
def test_the_providers_of_onnx_runtime_are_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    has: list[str],
    packages: list[str],
    driver: bool,
    status: Status,
    words: str,
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [f"{name}ExecutionProvider" for name in has])
    monkeypatch.setattr(machine_check.package_check, "version_of", lambda name: "1.31" if name in packages else None)
    monkeypatch.setattr(machine_check, "DRIVER", tmp_path if driver else tmp_path / "none")
    found = one(machine_check.onnx_runtime())
    assert found.status is status
    assert words in found.found
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "a client does not need it" in one(machine_check.onnx_runtime()).found


def test_several_gpus_need_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA X", total_memory=80 * GIB)  # the test machines have no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(machine_check.shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**26))
    gpu, shared = machine_check.gpu()
    assert gpu == ok("GPU", "NVIDIA X, 80.0 GiB; NVIDIA X, 80.0 GiB")
    assert shared.status is Status.WARNING
    assert "0.1 GiB" in shared.found
    assert "--shm-size" in shared.advice


@pytest.mark.parametrize(
    ("line", "file", "value", "limit"),
    [
        ("0::/", "memory.max", "max", None),
        ("0::/", "memory.max", str(2 * GIB), "2.0 GiB"),
        ("0::/docker/0123", "memory.max", str(2 * GIB), "2.0 GiB"),  # the host's path, in the container's own mount
        ("0::/a/b", "a/memory.max", str(3 * GIB), "3.0 GiB"),  # of the parent group
        ("4:cpu,cpuacct:/\n3:memory:/a", "memory/a/memory.limit_in_bytes", str(GIB), "1.0 GiB"),
        ("3:memory:/a", "memory/memory.limit_in_bytes", "9223372036854771712", None),  # version 1's 'none'
    ],
)
def test_memory_is_the_limit_of_the_control_group(
    tmp_path: Path, line: str, file: str, value: str, limit: str | None
) -> None:
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / file).write_text(f"{value}\n")
    (tmp_path / "cgroup").write_text(f"{line}\n")
    found = one(machine_check.memory(tmp_path / "cgroup", tmp_path / "groups"))
    if limit is None:
        assert found == one(machine_check.memory(tmp_path / "none", tmp_path))
    else:
        assert found.status is Status.WARNING
        assert found.found.startswith(f"{limit}, the control group's limit")


@pytest.mark.parametrize(
    ("free", "disk", "temporary"),
    [(GIB / 2, Status.FAILED, Status.WARNING), (2 * GIB, Status.WARNING, Status.OK), (10 * GIB, Status.OK, Status.OK)],
)
def test_free_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, disk: Status, temporary: Status
) -> None:
    monkeypatch.setattr(machine_check.shutil, "disk_usage", lambda _: Usage(100 * GIB, 0, free))
    found = machine_check.disk(tmp_path)
    assert [(finding.name, finding.status) for finding in found] == [("disk", disk), ("temporary", temporary)]
