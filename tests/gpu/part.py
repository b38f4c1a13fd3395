"""The arguments, sizes and clocks of the check's parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

LARGE = 8192  # side of the matrices whose product gives the roofline


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batch: int
    """Pairs or images in a training step, and in the largest forward pass."""
    steps: int
    """Training steps in an epoch."""
    rounds: int
    """Times that two loops take turns."""
    jpegs: int
    """Files that are decoded."""
    documents: int
    """Images of the re-encode."""
    texts: int
    """Texts through the lane."""
    seconds: float
    """Length of a timed loop."""
    layers: int | None
    """Layers of each tower of ViT-B-32; None keeps its twelve."""
    architecture: str
    """timm's name of the image model."""
    compiles: bool
    """Whether torch.compile is measured, too."""


FULL = Sizes(1024, 12, 3, 8192, 100_000, 250_000, 1.0, None, "resnet50", compiles=True)
TINY = Sizes(2, 2, 1, 4, 4, 4, 0.01, 1, "resnet10t", compiles=False)


@dataclass(frozen=True)
class Part:
    """The arguments of a part."""

    device: str
    """'cuda' or 'cpu'."""
    sizes: Sizes

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def rate(self, call: Callable[[], int]) -> float:
        """Return items a second of calls that each return their number of items; two calls are a warm-up."""
        call(), call()
        self.wait()
        started, items = time.perf_counter(), 0
        while True:
            items += call()
            self.wait()
            passed = time.perf_counter() - started
            if passed >= self.sizes.seconds:
                return items / passed

    def wait(self) -> None:
        """Wait for the GPU."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def roofline(self, times: int = 20) -> float:
        """Return FLOP a second of a large bf16 matrix product."""
        side = LARGE if self.on_gpu else 64
        left, right = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        for _ in range(3):
            left @ right
        self.wait()
        started = time.perf_counter()
        for _ in range(times):
            left @ right
        self.wait()
        return 2 * side**3 * times / (time.perf_counter() - started)
