"""Compiles networks with torch.compile, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


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
