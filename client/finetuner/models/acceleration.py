"""Makes networks faster: torch.compile, block by block, oneDNN for fp32 products, and loads without random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

LARGE = 20_000_000  # weights. oneDNN prepares each shape of a product, which pays off for large products only
SHAPES = "64"  # cached shapes. The default, 1,024, takes most of a gigabyte when batch sizes and lengths vary


def compile_network(network: nn.Module, *, dynamic: bool | None = None) -> None:
    """Compile a network in place: its repeated blocks if they hold most of the weights, else all of it.

    Blocks of one shape share their compiled code, so that a transformer of twelve layers compiles in the time of one.

    Args:
        network: compiled at its first call.
        dynamic: as of `torch.compile`: None compiles anew for the second shape of an input, for any shape.
    """
    blocks = list(_repeated(network))
    if 2 * sum(map(_weights, blocks)) < _weights(network):
        blocks = [network]
    for block in blocks:
        block.compile(dynamic=dynamic)


def _repeated(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of each list of two or more that have the same class and shapes."""
    from torch import nn

    for module in network.modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        first, *others = map(_shapes, module)
        if all(other == first for other in others):
            yield from module


def _shapes(module: nn.Module) -> tuple[Any, ...]:
    return type(module), *((name, value.shape) for name, value in module.named_parameters())


def _weights(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


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


@contextmanager
def without_initial_weights() -> Iterator[None]:
    """Leave out the random initial weights of networks that this thread builds: they have any values.

    Every weight must be loaded afterwards. The draws take a third of a small model's load, and 6 s of ViT-L/14's.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    drawing = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
    draws = {getattr(torch.nn.init, name) for name in drawing} | {torch.Tensor.uniform_, torch.Tensor.normal_}

    class WithoutDraws(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            return (args[0] if args else given["tensor"]) if func in draws else func(*args, **given)

    with WithoutDraws():
        yield
