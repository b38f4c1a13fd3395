"""A loss over int8 and binary codes of embeddings beside the embeddings: a search of the codes then finds the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import distributed

from finetuner.config.losses import BINARY_CODES, BINARY_WEIGHT, INT8_WEIGHT, SIGN, TANH

from .contrastive import PairBatch, PairLoss

SLOPE = 2.0
"""Slope of the soft sign of 'tanh', for numbers whose root mean square is 1."""
LEVELS = 127


class CodesLoss(PairLoss):
    """Weighted mean of a loss over the embeddings, over their binary codes, and over their int8 codes.

    (L(x) + binary * L(b(x)) + int8 * L(q(x))) / (1 + binary + int8). Binary codes are the signs, divided by sqrt(dim);
    int8 codes the numbers rounded to one of 255 levels up to the largest number of their side, in all processes.
    Rounding passes gradients through as if it were not there (straight-through, Bengio et al., arXiv:1308.3432).
    With 'tanh' the signs are soft, norm(tanh(2 * sqrt(dim) * x)), and so are their gradients.

    Args:
        loss: of embeddings; its weights are trained too.
        binary: weight of the binary codes, at least 0.
        int8: weight of the int8 codes, at least 0.
        by: 'sign' or 'tanh'.
    """

    def __init__(self, loss: PairLoss, binary: float = 0.0, int8: float = 0.0, by: str = SIGN) -> None:
        super().__init__()
        self.loss = loss
        self.binary = binary
        self.int8 = int8
        self.signs = soft_signs if by == TANH else hard_signs

    def _score(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        parts: list[tuple[float, PairBatch]] = [(1.0, pairs)]
        if self.binary:
            parts.append((self.binary, pairs.changed(self.signs, self.signs)))
        if self.int8:
            texts = [pairs.text] if pairs.negatives is None else [pairs.text, pairs.negatives.text]
            largest = _largest([pairs.image], texts, everywhere=pairs.gather)
            of_images, of_texts = (partial(rounded, step=one / LEVELS) for one in largest.unbind())
            parts.append((self.int8, pairs.changed(of_images, of_texts)))
        losses = [weight * self.loss(each, logit_scale) for weight, each in parts]
        return torch.stack(losses).sum() / sum(weight for weight, _ in parts)


def hard_signs(rows: torch.Tensor) -> torch.Tensor:
    """Return the signs of (..., dim) rows, 0 as negative, divided by sqrt(dim). Their gradient is that of rows."""
    with torch.no_grad():
        change: torch.Tensor = torch.where(rows > 0, 1.0, -1.0).to(rows) / rows.shape[-1] ** 0.5 - rows
    return rows + change


def soft_signs(rows: torch.Tensor) -> torch.Tensor:
    """Return soft signs of (..., dim) rows, L2-normalised."""
    return F.normalize(torch.tanh(SLOPE * rows.shape[-1] ** 0.5 * rows), dim=-1)


def rounded(rows: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Return (..., dim) rows rounded to multiples of `step`, (). Their gradient is that of rows."""
    with torch.no_grad():
        change = torch.round(rows / step) * step - rows
    return rows + change


def with_codes(loss_of: Callable[..., PairLoss], options: Mapping[str, Any]) -> PairLoss:
    """Return a loss with its options, over codes too if their weights are among them.

    Args:
        loss_of: makes the loss of its other options.
        options: checked, by name.
    """
    own = {name: value for name, value in options.items() if name not in (BINARY_WEIGHT, BINARY_CODES, INT8_WEIGHT)}
    binary, int8 = (options.get(name, 0.0) for name in (BINARY_WEIGHT, INT8_WEIGHT))
    loss = loss_of(**own)
    return CodesLoss(loss, binary, int8, options.get(BINARY_CODES, SIGN)) if binary or int8 else loss


@torch.no_grad()
def _largest(*sides: list[torch.Tensor], everywhere: bool) -> torch.Tensor:
    """Return the largest absolute number of each side, (sides,), of all processes if `everywhere`."""
    found = torch.stack([torch.stack([rows.abs().max() for rows in side]).max() for side in sides])
    if everywhere and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found
