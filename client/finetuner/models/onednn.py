"""fp32 matrix products by oneDNN, in processes of our own."""

from __future__ import annotations

import os
from typing import Any

LARGE = 20_000_000  # weights; oneDNN prepares each shape of a product, which pays where products are large
SHAPES = "64"  # that it remembers; its own 1,024 take most of a gigabyte where batches and lengths vary


def prefer_onednn(network: Any) -> None:
    """Let torch multiply fp32 matrices on this CPU by oneDNN: its own choice, MKL, is half as fast on AMD's.

    torch asks oneDNN only where it may round to bf16, which oneDNN does by AMX alone: a CPU with AMX keeps MKL. On all
    others the products stay exact; tests/benchmarks/RESULTS.md has what that is worth. The setting is the process's,
    so it is for rooms and runs, not for a user's own program.

    Args:
        network: what this process computes; a small one changes nothing.
    """
    import torch

    if sum(value.numel() for value in network.parameters()) >= LARGE and not torch.cpu._is_amx_tile_supported():
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", SHAPES)
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
