"""Checks the GPU, memory and disk of the machine or container."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import package_check
from .finding import GIB, Finding, failed, in_gib, ok, warning

DRIVER = Path("/proc/driver/nvidia/version")  # containers see the machine's file
SHARED_MEMORY = Path("/dev/shm")
CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
DISK_FAILS, DISK_WARNS = GIB, 10 * GIB
TEMPORARY_WARNS = GIB
MEMORY_WARNS = 4 * GIB  # enough for the rooms and one small run. A large CLIP needs more
SHARED_WARNS = GIB


def gpu() -> Iterator[Finding]:
    """Check which GPUs torch can use."""
    torch = _imported("torch")
    if torch is None:
        yield ok("GPU", "not checked: torch is not installed, and a client does not need it")
        return
    with warnings.catch_warnings(record=True) as caught:  # torch warns about the reason if CUDA does not start
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        devices = map(torch.cuda.get_device_properties, range(count))
        yield ok("GPU", "; ".join(f"{device.name}, {in_gib(device.total_memory)}" for device in devices))
        if count > 1 and SHARED_MEMORY.is_dir():
            yield _shared_memory(count)
    elif DRIVER.exists() or shutil.which("nvidia-smi"):
        reason = "".join(f": {' '.join(str(each.message).split())}" for each in caught[:1])
        yield warning(
            "GPU",
            f"an NVIDIA driver is installed, but torch {torch.__version__} finds no GPU{reason}",
            "Start a container with `--gpus all`. Elsewhere check $CUDA_VISIBLE_DEVICES, and check in `nvidia-smi` "
            "that the driver is new enough for this torch. Until then the CPU trains and encodes.",
        )
    else:
        yield ok("GPU", "none, the CPU trains and encodes")


def _imported(name: str) -> Any:
    """Return a module, None if its package is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def onnx_runtime() -> Iterator[Finding]:
    """Check which execution providers ONNX Runtime has, and that only one of its two packages is installed."""
    onnxruntime = _imported("onnxruntime")
    if onnxruntime is None:
        yield ok("ONNX Runtime", "not installed, and a client does not need it")
        return
    has = onnxruntime.get_available_providers()
    found = ", ".join(name.removesuffix("ExecutionProvider") for name in has)
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if package_check.version_of(name)]
    if len(both) == 2:
        yield warning(
            "ONNX Runtime",
            f"{found}; onnxruntime and onnxruntime-gpu are both installed, and share a module",
            "Keep one: pip uninstall --yes onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu.",
        )
    elif DRIVER.exists() and "CUDAExecutionProvider" not in has:
        yield warning(
            "ONNX Runtime",
            f"{found}; `engine: onnx` runs on the CPU beside a GPU",
            "pip uninstall --yes onnxruntime, then pip install onnxruntime-gpu. The image has it with VARIANT=cuda.",
        )
    else:
        yield ok("ONNX Runtime", found)


def _shared_memory(gpus: int) -> Finding:
    """Check the shared memory, which NCCL needs for a run on several GPUs. Data loaders are threads and need none."""
    total = shutil.disk_usage(SHARED_MEMORY).total
    found = f"{SHARED_MEMORY} has {in_gib(total)}"
    if total >= SHARED_WARNS:
        return ok("shared memory", found)
    return warning(
        "shared memory",
        f"{found}, and {gpus} GPUs exchange gradients through it",
        "Start the container with `--shm-size 1g` before a run on several GPUs.",
    )


def memory(cgroup: Path = CGROUP, mount: Path = CGROUPS) -> Iterator[Finding]:
    """Check the memory that processes here may use: the machine's, or the limit of their control group.

    Args:
        cgroup: file that lists this process's control groups.
        mount: folder of the control groups, version 1 or 2.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(_limits(cgroup, mount), default=total)
    found = in_gib(total) if limit >= total else f"{in_gib(limit)}, the control group's limit, of {in_gib(total)}"
    if min(limit, total) >= MEMORY_WARNS:
        yield ok("memory", found)
    else:
        yield warning(
            "memory",
            found,
            f"Provide at least {in_gib(MEMORY_WARNS)} (`docker run --memory`), or start fewer rooms with "
            "`finetuner up --flow encode`.",
        )


def _limits(cgroup: Path, mount: Path) -> Iterator[int]:
    """Yield the limits in bytes of this process's control group and its parents."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        own = top / path.lstrip("/")  # in a container this may be the host's path, which does not exist here
        for folder in (own, *own.parents):
            if folder.is_relative_to(top) and (file := folder / name).is_file():
                value = file.read_text().strip()
                if value.isdigit():  # else 'max'
                    yield int(value)


def disk(folder: Path) -> Iterator[Finding]:
    """Check the free space for the workspace and for temporary files.

    Args:
        folder: the workspace, or its nearest parent that exists.
    """
    free = shutil.disk_usage(folder).free
    found = f"{in_gib(free)} free at {folder}"
    advice = "Free some space, or choose another disk with --workspace. Checkpoints, artifacts and the index need it."
    if free >= DISK_WARNS:
        yield ok("disk", found)
    else:
        yield (failed if free < DISK_FAILS else warning)("disk", found, advice)
    temporary = tempfile.gettempdir()
    free = shutil.disk_usage(temporary).free
    found = f"{in_gib(free)} free at {temporary}"
    if free >= TEMPORARY_WARNS:
        yield ok("temporary", found)
    else:
        yield warning("temporary", found, "Free some space, or set $TMPDIR. Uploads and reports need it.")
