"""Matryoshka loss: the first numbers of an embedding are an embedding too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from finetuner.config.matryoshka import MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS, Matryoshka

from .contrastive import PairBatch, PairLoss


class MatryoshkaLoss(PairLoss):
    """Weighted mean of a loss over the whole embeddings and over their first numbers, each cut normalised again.

    Kusupati et al., arXiv:2205.13147, for pairs: sum_k c_k * L(norm(image[:, :d_k]), norm(text[:, :d_k])) / sum_k c_k.
    Every size has the same logit scale, masks and options.

    Args:
        loss: of embeddings of one size; its weights are trained too.
        dims: the further sizes, each at least 1 and below the embeddings' own.
        weights: of the whole embeddings and then of each size, above 0. None: all the same.
    """

    def __init__(self, loss: PairLoss, dims: Sequence[int], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.dims = tuple(dims)
        self.weights = (1.0,) * (len(dims) + 1) if weights is None else tuple(weights)

    def _score(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        sizes = [pairs, *map(pairs.first_numbers, self.dims)]
        losses = [weight * self.loss(each, logit_scale) for weight, each in zip(self.weights, sizes, strict=True)]
        return torch.stack(losses).sum() / sum(self.weights)


def with_short_vectors(loss_of: Callable[..., PairLoss], options: Mapping[str, Any]) -> PairLoss:
    """Return a loss with its options, over short vectors too if `matryoshka_dims` is among them.

    Args:
        loss_of: makes the loss of its other options.
        options: checked, by name.
    """
    own = {name: value for name, value in options.items() if name not in (MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS)}
    loss, short = loss_of(**own), Matryoshka.read(options)
    return loss if short is None else MatryoshkaLoss(loss, short.dims, short.weights)
