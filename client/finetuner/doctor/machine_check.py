"""The machine, or what a container has of it: GPU, memory, disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from .finding import GIB, Finding, failed, in_gib, ok, warning

DRIVER = Path("/proc/driver/nvidia/version")  # of the machine, and seen in its containers too
SHARED_MEMORY = Path("/dev/shm")
CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
DISK_FAILS, DISK_WARNS = GIB, 10 * GIB
TEMPORARY_WARNS = GIB
MEMORY_WARNS = 4 * GIB  # rooms and one small run; a large CLIP needs more
SHARED_WARNS = GIB


def graphics() -> Iterator[Finding]:
    """Say what torch would train and encode on."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        yield ok("GPU", "not checked: torch is not installed, as a client needs none")
        return
    with warnings.catch_warnings(record=True) as caught:  # torch tells here why CUDA does not start
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
            f"there is an NVIDIA driver, but torch {torch.__version__} sees no device{reason}",
            "Start a container with `--gpus all`; elsewhere see $CUDA_VISIBLE_DEVICES, and whether `nvidia-smi` shows "
            "a driver that is new enough for this torch. Without, the CPU does the work.",
        )
    else:
        yield ok("GPU", "none: trains and encodes on the CPU")


def _shared_memory(gpus: int) -> Finding:
    """Look at what NCCL needs for a run on several GPUs; nothing else here does: loaders are threads."""
    total = shutil.disk_usage(SHARED_MEMORY).total
    found = f"{SHARED_MEMORY} has {in_gib(total)}"
    if total >= SHARED_WARNS:
        return ok("shared memory", found)
    return warning(
        "shared memory",
        f"{found}, by which {gpus} GPUs exchange gradients",
        "Start the container with `--shm-size 1g` before a run takes several processes.",
    )


def memory(cgroup: Path = CGROUP, mount: Path = CGROUPS) -> Iterator[Finding]:
    """Look at the memory that processes here may have: the machine's, or less where their control group says so.

    Args:
        cgroup: lists this process's control groups.
        mount: where control groups are to be seen, of either version.
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
            f"Give it {in_gib(MEMORY_WARNS)} or more (`docker run --memory`), or start fewer rooms: "
            "`finetuner up --flow encode`.",
        )


def _limits(cgroup: Path, mount: Path) -> Iterator[int]:
    """Yield the limits of this process's control group and of those around it, bytes."""
    try:
        lines = cgroup.read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (mount / "memory", "memory.limit_in_bytes") if controllers else (mount, "memory.max")
        own = top / path.lstrip("/")  # in a container the path may be the host's, and not be there
        for folder in (own, *own.parents):
            if folder.is_relative_to(top) and (file := folder / name).is_file():
                value = file.read_text().strip()
                if value.isdigit():  # else 'max'
                    yield int(value)


def disk(folder: Path) -> Iterator[Finding]:
    """Look at the free space for the workspace, and for temporary files.

    Args:
        folder: of the workspace, or the nearest one around it that is there.
    """
    free = shutil.disk_usage(folder).free
    found = f"{in_gib(free)} free at {folder}"
    advice = "Free some, or choose another disk with --workspace: checkpoints, artifacts and the index go there."
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
        yield warning("temporary", found, "Free some, or set $TMPDIR: uploads and reports pass through it.")
