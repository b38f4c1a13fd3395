"""Self-distillation: the tuned CLIP keeps the similarities that the initial one gives to each batch.

As in learning without forgetting (Li and Hoiem, arXiv:1606.09282) and open_clip's `DistillClipLoss`, at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn

from .contrastive import PairBatch


class Teacher:
    """A network as it is now, in eval mode. Training of the original does not change it.

    It shares the frozen parameters of the original, which saves their memory: those of a locked tower, or with LoRA all
    but the adapters, which add nothing before training.

    Args:
        network: (chunk's inputs) -> embeddings of images and texts, L2-normalised.
        logit_scale: of the network, before exp.
    """

    def __init__(self, network: nn.Module, logit_scale: torch.Tensor) -> None:
        shared = {id(value): value for value in network.parameters() if not value.requires_grad}
        self._network = deepcopy(network, shared).eval().requires_grad_(requires_grad=False)
        self.scale = logit_scale.detach().exp().clone()
        """() factor of the cosine."""

    def embed(self, inputs: Sequence[torch.Tensor], at_once: int | None = None) -> tuple[torch.Tensor, ...]:
        """Return the embeddings of a batch, each (batch, dim) float32, L2-normalised, without a graph.

        Args:
            inputs: of the network, each (batch, ...).
            at_once: rows in one forward pass; None takes them all.
        """
        size = at_once or len(inputs[0])
        with torch.no_grad():
            chunks = zip(*(torch.split(side, size) for side in inputs), strict=True)
            return tuple(map(torch.cat, zip(*(self._network(*chunk) for chunk in chunks), strict=True)))


def distillation_loss(
    student: PairBatch, student_scale: torch.Tensor, teacher: PairBatch, teacher_scale: torch.Tensor
) -> torch.Tensor:
    """Return the cross entropy of the teacher's and the student's softmax over the batch, () float32, in nats.

    For each image it compares the shares of all captions, for each caption those of all images; then it takes the mean
    of both directions. False negatives are left out on both sides. The gradient is 0 if both have the same embeddings
    and scales. Processes share a batch as in `PairLoss`.

    Args:
        student: pairs of this process, with their ids.
        student_scale: () factor of the student's cosine.
        teacher: the teacher's embeddings of the same pairs, without a graph.
        teacher_scale: () factor of the teacher's cosine.
    """
    with torch.autocast(student.image.device.type, enabled=False):
        student, teacher, masked = student.in_full_precision(), teacher.in_full_precision(), student.false_negatives()
        directions = zip(_logits(student, student_scale), _logits(teacher, teacher_scale), strict=True)
        return torch.stack([_cross_entropy(own, wanted, masked) for own, wanted in directions]).mean()


def _logits(pairs: PairBatch, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (batch, all) of this process's images with all captions, and of its captions with all images."""
    images, texts = pairs.of_everyone(torch.stack([pairs.image, pairs.text], dim=1)).unbind(1)
    scale = scale.to(pairs.image.dtype)
    return scale * pairs.image @ texts.T, scale * pairs.text @ images.T


def _cross_entropy(student: torch.Tensor, teacher: torch.Tensor, masked: torch.Tensor | None) -> torch.Tensor:
    if masked is None:
        return -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()
    shares = teacher.masked_fill(masked, -torch.inf).softmax(1)
    found = student.masked_fill(masked, -torch.inf).log_softmax(1)
    return -(shares * found.masked_fill(masked, 0)).sum(1).mean()
