"""Switches fp32 matrix products to oneDNN, in processes of our own."""

from __future__ import annotations

import os
from typing import Any

LARGE = 20_000_000  # weights. oneDNN prepares each shape of a product, which pays off for large products only
SHAPES = "64"  # cached shapes. The default, 1,024, takes most of a gigabyte when batch sizes and lengths vary


def prefer_onednn(network: Any) -> None:
    """Use oneDNN for fp32 matrix products on this CPU. torch's default, MKL, is half as fast on AMD CPUs.

    torch calls oneDNN only if the setting permits rounding to bf16. oneDNN rounds with AMX alone, so a CPU with AMX
    keeps MKL, and on all others the products stay exact. tests/benchmarks/RESULTS.md has the measured gain. The
    setting applies to the whole process: use it in rooms and runs, never in a user's own program.

    Args:
        network: the network that this process runs. With fewer than LARGE weights nothing changes.
    """
    import torch

    if sum(value.numel() for value in network.parameters()) >= LARGE and not torch.cpu._is_amx_tile_supported():
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", SHAPES)
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
