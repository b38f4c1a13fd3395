"""Computes the gradient of a loss over a large batch in the memory of a small one: GradCache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

Chunk = TypeVar("Chunk")


def cached_backward(
    encode: Callable[[Chunk], tuple[torch.Tensor, ...]],
    chunks: Sequence[Chunk],
    loss_of: Callable[..., torch.Tensor],
    *,
    loss_parameters: Sequence[torch.Tensor] = (),
    backward: Callable[[torch.Tensor], Any] = torch.Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> torch.Tensor:
    """Add the gradient of a whole batch's loss to the parameters', with one chunk in memory at a time.

    Gao et al., arXiv:2101.06983: embed all chunks without a graph and compute the loss's gradient at the embeddings.
    Then embed each chunk again, with the same dropout, and backpropagate its part of that gradient. The result is exact
    if the output for a pair depends on that pair alone. Batch norms in training use each chunk's own statistics, twice.

    Args:
        encode: chunk -> embeddings, (rows, dim) each, for example of images and texts. Called twice for each chunk,
            so it must not use random generators other than torch's. Autocast may be on inside it or around this call.
        chunks: of the batch, of any sizes; at least one.
        loss_of: the same embeddings of the whole batch, (batch, dim) each -> () loss. It may gather over processes,
            which must all call this function with the same number of chunks.
        loss_parameters: parameters of `loss_of`, such as logit_scale.
        backward: replaces `loss.backward()`, for example with `accelerator.backward`.
        no_sync: of DistributedDataParallel, if `encode` calls such a module. Gradients are averaged once, with the last
            chunk.

    Returns:
        () the loss of the batch, without a graph.
    """
    states: list[tuple[torch.Tensor, ...]] = []
    embeddings = []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            embeddings.append(encode(chunk))
    sides = [torch.cat(side).requires_grad_() for side in zip(*embeddings, strict=True)]
    sizes = [len(rows[0]) for rows in embeddings]
    del embeddings

    trained = [parameter for parameter in loss_parameters if parameter.requires_grad]
    with torch.enable_grad():
        loss = loss_of(*sides)
    found = torch.autograd.grad(loss, [*sides, *trained], allow_unused=True, materialize_grads=True)
    at_sides, at_trained = found[: len(sides)], found[len(sides) :]

    parts = zip(chunks, states, zip(*(torch.split(gradient, sizes) for gradient in at_sides), strict=True), strict=True)
    for index, (chunk, state, gradients) in enumerate(parts):
        last = index == len(chunks) - 1
        with nullcontext() if last else no_sync():
            _set_random_state(state)
            product = sum(map(_dot, encode(chunk), gradients), start=torch.zeros((), device=loss.device))
            if last:  # a synchronised module averages with the last chunk, and needs every gradient by then
                for parameter, gradient in zip(trained, at_trained, strict=True):
                    product = product + _dot(parameter, gradient)
            backward(product)
    return loss.detach()


def _dot(values: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return () whose gradient at `values` is `gradient`, in float32 or more: a loss scaler cannot overflow it."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    return (values.to(dtype) * gradient.to(dtype)).sum()


def _random_state() -> tuple[torch.Tensor, ...]:
    """Return the state of the CPU's generator, and of the current GPU's if one is in use."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.get_rng_state(), torch.cuda.get_rng_state()
    return (torch.get_rng_state(),)


def _set_random_state(state: tuple[torch.Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
