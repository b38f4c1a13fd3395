"""fp32 matrix products by oneDNN, in processes of our own."""

from __future__ import annotations


def prefer_onednn() -> None:
    """Let torch multiply fp32 matrices on this CPU by oneDNN: its own choice, MKL, is half as fast on AMD's.

    torch asks oneDNN only where it may round to bf16, which oneDNN does by AMX alone: a CPU with AMX keeps MKL. On all
    others the products stay exact; tests/benchmarks/RESULTS.md has what that is worth. The setting is the process's,
    so it is for rooms and runs, not for a user's own program.
    """
    import torch

    if not torch.cpu._is_amx_tile_supported():
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
