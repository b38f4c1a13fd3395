"""The machine: card, versions, and what its GPU and its bus reach."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tests.gpu.part import Part

PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "accelerate", "transformers", "onnxruntime", "numpy")
COPIED = 2**28  # bytes


def figures(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the machine's figures."""
    yield "cores", len(os.sched_getaffinity(0))
    yield "python", platform.python_version()
    yield "packages", {name: _version(name) for name in PACKAGES}
    if not part.on_gpu:
        yield "card", "none"
        return
    yield "card", torch.cuda.get_device_name()
    yield "roofline_tflops", round(part.roofline() / 1e12, 1)
    source = torch.randint(0, 255, (COPIED,), dtype=torch.uint8)
    target = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    yield "pageable_to_device_gb_s", round(_copies(part, source, target) / 1e9, 1)
    yield "pinned_to_device_gb_s", round(_copies(part, source.pin_memory(), target) / 1e9, 1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _copies(part: Part, source: torch.Tensor, target: torch.Tensor, times: int = 5) -> float:
    """Return bytes a second."""
    target.copy_(source)
    part.wait()
    started = time.perf_counter()
    for _ in range(times):
        target.copy_(source, non_blocking=True)
    part.wait()
    return times * COPIED / (time.perf_counter() - started)
