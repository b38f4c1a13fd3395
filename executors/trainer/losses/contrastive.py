"""Contrastive losses over the pairs of all processes, without false negatives: symmetric InfoNCE and SigLIP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import distributed, nn

SIGLIP_BIAS = -10.0
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Negatives:
    """Captions that do not fit an image of this process's pairs. Every process's images are scored against all."""

    text: torch.Tensor
    """(batch, most, dim), L2-normalised; `most` is the same in every process."""
    ids: torch.Tensor
    """(batch, most) int64, equal for equal captions; -1 fills the places of images with fewer."""
    label_ids: torch.Tensor
    """(batch, most) int64, the label of the image that a caption was taken from; -1 for none."""
    known: torch.Tensor
    """(batch, captions) int64, ids of all captions of each pair's image; -1 fills the places of those with fewer."""


@dataclass(frozen=True)
class PairBatch:
    """Embeddings of this process's pairs of a batch, and the false negatives among everyone's.

    Pairs with the same image, the same caption or the same label are no negatives of one another.
    """

    image: torch.Tensor
    """(batch, dim), L2-normalised; `batch` is the same in every process."""
    text: torch.Tensor
    """(batch, dim), L2-normalised."""
    image_ids: torch.Tensor | None = None
    """(batch,) int64, equal for equal images. None: all differ."""
    text_ids: torch.Tensor | None = None
    """(batch,) int64, equal for equal captions. None: all differ."""
    label_ids: torch.Tensor | None = None
    """(batch,) int64, equal for equal labels, -1 for none. None: no pair has a label."""
    negatives: Negatives | None = None
    """None: only the captions of the batch are negatives."""
    weights: torch.Tensor | None = None
    """(batch,) float, above 0: how much each pair counts. None: all the same. All processes have them, or none."""
    groups: tuple[torch.Tensor, torch.Tensor] | None = None
    """Two of (batch,) int64, equal for near duplicate images and for near duplicate captions. None: there are none."""
    soft: float = 0.0
    """In [0, 1]: how much of a positive a near duplicate is, beside the 1 of the pair itself."""
    gather: bool = True
    """False scores this process's pairs among themselves, as in validation by one process alone."""

    def __len__(self) -> int:
        return len(self.image)

    def in_full_precision(self) -> PairBatch:
        """Return the batch with float32 embeddings; float64 stays. The weights get the same precision."""
        image, weights = _full(self.image), self.weights
        return replace(
            self,
            image=image,
            text=_full(self.text),
            negatives=self.negatives and replace(self.negatives, text=_full(self.negatives.text)),
            weights=None if weights is None else weights.to(image),
        )

    def first_numbers(self, dim: int) -> PairBatch:
        """Return the batch with embeddings of (batch, dim): the first numbers of each, normalised again."""
        assert dim < self.image.shape[1]

        def cut(side: torch.Tensor) -> torch.Tensor:
            return F.normalize(side[..., :dim], dim=-1)

        return self.changed(cut, cut)

    def changed(self, of_images: Change, of_texts: Change) -> PairBatch:
        """Return the batch with embeddings that functions of (..., dim) rows change; negatives are texts."""
        negatives = self.negatives and replace(self.negatives, text=of_texts(self.negatives.text))
        return replace(self, image=of_images(self.image), text=of_texts(self.text), negatives=negatives)

    def of_everyone(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, (all, ...), for this process's (batch, ...). Gradients flow back."""
        return of_all_processes(rows) if self.gather else rows

    def own(self) -> torch.Tensor:
        """Return (batch,) int64: positions of this process's pairs among everyone's."""
        first = _world()[0] * len(self) if self.gather else 0
        return torch.arange(first, first + len(self), device=self.image.device)

    def false_negatives(self) -> torch.Tensor | None:
        """Return (batch, all) bool: true where another pair has the same image, caption or label. None without ids."""
        both = (self.image_ids, self.text_ids)
        same = [ids[:, None] == self.of_everyone(ids)[None, :] for ids in both if ids is not None]
        if self.label_ids is not None:
            own_labels = self.label_ids[:, None]
            same.append((own_labels == self.of_everyone(self.label_ids)[None, :]) & (own_labels >= 0))
        if not same:
            return None
        masked = torch.stack(same).any(0)
        return masked.scatter(1, self.own()[:, None], value=False)

    def near_duplicates(self, masked: torch.Tensor | None) -> torch.Tensor | None:
        """Return (batch, all) bool: true where another pair is nearly the same, and not masked. None without groups."""
        if self.groups is None:
            return None
        near = torch.stack([ids[:, None] == self.of_everyone(ids)[None, :] for ids in self.groups]).any(0)
        near = near.scatter(1, self.own()[:, None], value=False)
        return near if masked is None else near & ~masked

    def weight(self) -> torch.Tensor | int:
        """Return the sum of the weights, (), as the mean over the processes.

        A sum over this process's pairs divided by it has the weighted mean over everyone's pairs as its mean over the
        processes. A process's own sum would give another gradient: weights differ from process to process.
        """
        if self.weights is None:
            return len(self)
        total = self.weights.sum()
        if self.gather and _world()[1] > 1:
            distributed.all_reduce(total)
            total = total / _world()[1]
        return total

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of (batch,) values of this process's pairs, (); see `weight`."""
        if self.weights is None:
            return values.mean()
        return (self.weights * values).sum() / self.weight()

    def with_negatives(
        self, texts: torch.Tensor, masked: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the captions that this process's images are scored against, (columns, dim), and their mask.

        Args:
            texts: (all, dim), captions of all pairs.
            masked: (batch, all) bool, `false_negatives`.

        Returns:
            The captions and everyone's negatives; and (batch, columns) bool: also true where a negative is a caption
            of the image, has its pair's label, or fills a place. None without ids.
        """
        if self.negatives is None:
            return texts, masked
        further = self.of_everyone(self.negatives.text).flatten(0, 1)
        ids, labels = (self.of_everyone(each).flatten() for each in (self.negatives.ids, self.negatives.label_ids))
        false = (ids < 0).expand(len(self), -1)
        for known in self.negatives.known.unbind(1):
            false = false | (known[:, None] == ids)
        if self.label_ids is not None:
            false = false | ((self.label_ids[:, None] == labels) & (labels >= 0))
        if masked is None:
            masked = torch.zeros(len(self), len(texts), dtype=torch.bool, device=texts.device)
        return torch.cat([texts, further]), torch.cat([masked, false], dim=1)


class PairLoss(nn.Module, ABC):
    """A loss over the pairs of a batch, which several processes may share.

    Each process scores its own pairs against everyone's, and gradients flow back to all of them. The mean of the
    processes' losses is the loss of the whole batch. The mean of their gradients, which DistributedDataParallel
    computes, is its gradient.
    """

    def forward(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        """Return the mean over this process's pairs, by their weights, () float32 (float64 of float64).

        Args:
            pairs: of this process.
            logit_scale: () factor of the cosine, above 0: exp of the network's `logit_scale`.
        """
        with torch.autocast(pairs.image.device.type, enabled=False):
            return self._score(pairs.in_full_precision(), _full(logit_scale))

    @abstractmethod
    def _score(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        """Return the loss; arguments as in `forward`, in float32 or float64."""


class CLIPLoss(PairLoss):
    """Symmetric InfoNCE, in nats: each image must find its caption in the batch, each caption its image.

    Radford et al., arXiv:2103.00020; the mean of both directions. With weights w it is that of generalised contrastive
    learning, arXiv:2404.08535: sum_i w_i (by_image_i + by_text_i) / (2 sum_i w_i).

    Args:
        label_smoothing: share of the target, in [0, 1), spread evenly over the pair and its negatives. With near
            duplicates the rest of the target is 1 for the pair and `soft` for each of them, divided by their sum.
        hardness: the logit of each negative grows by hardness times its cosine, without a gradient of its own: harder
            negatives weigh more (LLaVE, arXiv:2503.04812). Not scaled by the logit scale. 0 is plain InfoNCE.
    """

    def __init__(self, label_smoothing: float = 0.0, hardness: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.hardness = hardness

    def _score(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        own, masked = pairs.own(), pairs.false_negatives()
        all_images, all_texts = pairs.of_everyone(torch.stack([pairs.image, pairs.text], dim=1)).unbind(1)  # (all, dim)
        columns, hidden = pairs.with_negatives(all_texts, masked)
        near = pairs.near_duplicates(masked)
        if near is not None:
            further = near.new_zeros(len(near), len(columns) - near.shape[1])
            by_image, by_text = (
                self._soft_cross_entropy(self._logits(rows, others, logit_scale, own, also), own, left_out, also, pairs)
                for rows, others, left_out, also in (
                    (pairs.image, columns, hidden, torch.cat([near, further], dim=1)),
                    (pairs.text, all_images, masked, near),
                )
            )
            return pairs.mean((by_image + by_text) / 2)
        by_image = self._cross_entropy(self._logits(pairs.image, columns, logit_scale, own), own, hidden)
        by_text = self._cross_entropy(self._logits(pairs.text, all_images, logit_scale, own), own, masked)
        return pairs.mean((by_image + by_text) / 2)

    def _logits(
        self,
        rows: torch.Tensor,
        columns: torch.Tensor,
        logit_scale: torch.Tensor,
        own: torch.Tensor,
        near: torch.Tensor | None = None,
    ) -> torch.Tensor:
        logits = logit_scale * rows @ columns.T
        if not self.hardness:
            return logits
        with torch.no_grad():
            harder = (self.hardness * rows @ columns.T).scatter(1, own[:, None], 0)
            harder = harder if near is None else harder.masked_fill(near, 0)
        return logits + harder

    def _soft_cross_entropy(
        self, logits: torch.Tensor, own: torch.Tensor, masked: torch.Tensor | None, near: torch.Tensor, pairs: PairBatch
    ) -> torch.Tensor:
        """Return (batch,): the cross entropy with targets that near duplicates share."""
        target = (pairs.soft * near.to(logits.dtype)).scatter(1, own[:, None], 1.0)
        target = target / target.sum(1, keepdim=True)
        if masked is None:
            masked = torch.zeros_like(near)
        logits = logits.masked_fill(masked, -torch.inf)
        surprise = (torch.logsumexp(logits, 1, keepdim=True) - logits).masked_fill(masked, 0)
        even = surprise.sum(1) / (~masked).sum(1)
        return (1 - self.label_smoothing) * (target * surprise).sum(1) + self.label_smoothing * even

    def _cross_entropy(self, logits: torch.Tensor, own: torch.Tensor, masked: torch.Tensor | None) -> torch.Tensor:
        """Return (batch,)."""
        if masked is None:
            return F.cross_entropy(logits, own, label_smoothing=self.label_smoothing, reduction="none")
        logits = logits.masked_fill(masked, -torch.inf)
        loss = F.cross_entropy(logits, own, reduction="none")
        if not self.label_smoothing:
            return loss
        surprise = (torch.logsumexp(logits, 1, keepdim=True) - logits).masked_fill(masked, 0)
        even = surprise.sum(1) / (~masked).sum(1)
        return (1 - self.label_smoothing) * loss + self.label_smoothing * even


class SigLIPLoss(PairLoss):
    """Sigmoid loss: for each image and caption of the batch, do they belong together, yes or no?

    Zhai et al., arXiv:2303.15343, algorithm 1: the sum over combinations divided by the number of pairs. In tuning it
    collapses easily. With weights, each combination counts by the mean of the weights of its image's and its caption's
    pair, and the sum is divided by the sum of the weights: as in `CLIPLoss`, pair i counts w_i in both directions.
    A near duplicate belongs together with the probability `soft`.

    Args:
        logit_bias: added to each logit, and trained. A number is the initial value of a weight of the loss, which
            must reach the optimizer and DistributedDataParallel. Or pass the network's own parameter.
    """

    def __init__(self, logit_bias: float | nn.Parameter = SIGLIP_BIAS) -> None:
        super().__init__()
        own = isinstance(logit_bias, nn.Parameter)
        self.logit_bias = logit_bias if own else nn.Parameter(torch.tensor(float(logit_bias)))

    def _score(self, pairs: PairBatch, logit_scale: torch.Tensor) -> torch.Tensor:
        own, masked = pairs.own(), pairs.false_negatives()
        everyone = pairs.of_everyone(pairs.text)
        columns, masked = pairs.with_negatives(everyone, masked)
        logits = logit_scale * pairs.image @ columns.T + self.logit_bias  # (batch, columns)
        signs = -torch.ones_like(logits)
        signs[torch.arange(len(own), device=own.device), own] = 1
        losses = -F.logsigmoid(signs * logits)
        near = pairs.near_duplicates(None if masked is None else masked[:, : len(everyone)])
        if near is not None:  # the cross entropy with the label `soft`
            also = F.pad(near, (0, len(columns) - len(everyone)))
            losses = torch.where(also, pairs.soft * -F.logsigmoid(logits) + (1 - pairs.soft) * losses, losses)
        if masked is not None:
            losses = losses.masked_fill(masked, 0)
        if pairs.weights is not None:
            own_weights = pairs.weights[:, None].expand_as(losses)
            of_columns = own_weights.clone()  # a hard negative has no pair of its own
            of_columns[:, : len(everyone)] = pairs.of_everyone(pairs.weights)
            losses = losses * (own_weights + of_columns) / 2
        return losses.sum() / pairs.weight()


def _full(values: torch.Tensor) -> torch.Tensor:
    """Return values in float32 or float64, since a cosine times 100 in bfloat16 is off by a quarter."""
    return values if values.dtype == torch.float64 else values.float()


def _world() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def of_all_processes(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, (all, ...), in the order of ranks, for this process's (batch, ...).

    Gradients flow back.
    """
    if _world()[1] == 1:
        return rows
    gathered: torch.Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather whose gradient is the sum of all processes' gradients for these rows."""

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
