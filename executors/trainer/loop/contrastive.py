"""Contrastive losses over pairs: symmetric InfoNCE and SigLIP, without false negatives, over all processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import distributed, nn

SIGLIP_BIAS = -10.0


class PairLoss(nn.Module, ABC):
    """A loss over the pairs of a batch, of which each may be shared by several processes.

    Pairs with the same image or the same caption are no negatives of one another. Where processes share a batch,
    each one scores its own pairs against everyone's, and gradients flow back to all of them: the mean of the
    processes' losses is the loss of the whole batch, and the mean of their gradients, which DistributedDataParallel
    takes, is its gradient.
    """

    def forward(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        logit_scale: torch.Tensor,
        image_ids: torch.Tensor | None = None,
        text_ids: torch.Tensor | None = None,
        *,
        gather: bool = True,
    ) -> torch.Tensor:
        """Return the mean over this process's pairs, () float32 (float64 of float64).

        Args:
            image: (batch, dim), L2-normalised; `batch` is the same in every process.
            text: the same.
            logit_scale: () factor of the cosine, above 0: exp of the network's `logit_scale`.
            image_ids: (batch,) int64, equal for equal images; None: all differ.
            text_ids: (batch,) int64, equal for equal captions; None: all differ.
            gather: False scores this process's pairs among themselves, as in validation by one process alone.
        """
        with torch.autocast(image.device.type, enabled=False):
            image, text, logit_scale = _full(image), _full(text), _full(logit_scale)
            others = of_all_processes if gather else _alone
            own = _own_columns(image, gather)
            masked = _false_negatives(image_ids, text_ids, own, others)
            return self._score(image, text, logit_scale, own, masked, others)

    @abstractmethod
    def _score(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        logit_scale: torch.Tensor,
        own: torch.Tensor,
        masked: torch.Tensor | None,
        others: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return the loss.

        Args:
            image: as above, and the next two.
            text: (batch, dim)
            logit_scale: ()
            own: (batch,) int64, where this process's pairs stand among everyone's.
            masked: (batch, all) bool, what is no negative; None where everything else is one.
            others: this process's rows -> everyone's.
        """


class CLIPLoss(PairLoss):
    """Symmetric InfoNCE, in nats: each image must find its caption among the batch's, each caption its image.

    Radford et al., arXiv:2103.00020; the mean of both directions.

    Args:
        label_smoothing: share of the target, in [0, 1), that is spread evenly over the pair and its negatives.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def _score(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        logit_scale: torch.Tensor,
        own: torch.Tensor,
        masked: torch.Tensor | None,
        others: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        all_images, all_texts = others(torch.stack([image, text], dim=1)).unbind(1)  # (all, dim)
        by_image = self._cross_entropy(logit_scale * image @ all_texts.T, own, masked)
        by_text = self._cross_entropy(logit_scale * text @ all_images.T, own, masked)
        return (by_image + by_text) / 2

    def _cross_entropy(self, logits: torch.Tensor, own: torch.Tensor, masked: torch.Tensor | None) -> torch.Tensor:
        if masked is None:
            return F.cross_entropy(logits, own, label_smoothing=self.label_smoothing)
        logits = logits.masked_fill(masked, -torch.inf)
        loss = F.cross_entropy(logits, own)
        if not self.label_smoothing:
            return loss
        surprise = (torch.logsumexp(logits, 1, keepdim=True) - logits).masked_fill(masked, 0)
        even = (surprise.sum(1) / (~masked).sum(1)).mean()
        return (1 - self.label_smoothing) * loss + self.label_smoothing * even


class SigLIPLoss(PairLoss):
    """Sigmoid loss: is this caption this image's, yes or no, for each combination in the batch.

    Zhai et al., arXiv:2303.15343, algorithm 1: the sum over combinations by the count of pairs. In tuning it collapses
    easily.

    Args:
        logit_bias: added to each logit, and trained: a number to start from, or the network's own parameter. One that
            is made here is a weight of the loss: it goes to the optimizer, and into DistributedDataParallel.
    """

    def __init__(self, logit_bias: float | nn.Parameter = SIGLIP_BIAS) -> None:
        super().__init__()
        own = isinstance(logit_bias, nn.Parameter)
        self.logit_bias = logit_bias if own else nn.Parameter(torch.tensor(float(logit_bias)))

    def _score(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        logit_scale: torch.Tensor,
        own: torch.Tensor,
        masked: torch.Tensor | None,
        others: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        logits = logit_scale * image @ others(text).T + self.logit_bias  # (batch, all)
        signs = -torch.ones_like(logits)
        signs[torch.arange(len(own), device=own.device), own] = 1
        losses = -F.logsigmoid(signs * logits)
        if masked is not None:
            losses = losses.masked_fill(masked, 0)
        return losses.sum() / len(image)


def _false_negatives(
    image_ids: torch.Tensor | None,
    text_ids: torch.Tensor | None,
    own: torch.Tensor,
    others: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor | None:
    """Return (batch, all) bool, true where another pair has this one's image or caption; None without ids."""
    same = [ids[:, None] == others(ids)[None, :] for ids in (image_ids, text_ids) if ids is not None]
    if not same:
        return None
    masked: torch.Tensor = same[0] if len(same) == 1 else same[0] | same[1]
    return masked.scatter(1, own[:, None], value=False)


def _full(values: torch.Tensor) -> torch.Tensor:
    """Return float32 of half precision: a cosine times 100 in bfloat16 is off by a quarter."""
    return values if values.dtype == torch.float64 else values.float()


def _world() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _own_columns(rows: torch.Tensor, gather: bool) -> torch.Tensor:
    """Return (batch,) int64, where this process's pairs stand among everyone's."""
    first = _world()[0] * len(rows) if gather else 0
    return torch.arange(first, first + len(rows), device=rows.device)


def _alone(rows: torch.Tensor) -> torch.Tensor:
    return rows


def of_all_processes(rows: torch.Tensor) -> torch.Tensor:
    """Return (batch, ...) of all processes in the order of their ranks, (all, ...); gradients flow back."""
    if _world()[1] == 1:
        return rows
    gathered: torch.Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather whose gradient is the sum of what every process has for these rows."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(_world()[1])]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        rank, world = _world()
        return total.chunk(world)[rank]
