"""Near duplicates that count as positives in part, against loops over pairs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from finetuner.executors.trainer.losses.contrastive import CLIPLoss, Negatives, PairBatch, SigLIPLoss
from finetuner.executors.trainer.losses.matryoshka import MatryoshkaLoss

COUNT, SCALE, SOFT = 6, 3.0, 0.4
IMAGES, TEXTS = [0, 1, 2, 3, 4, 4], [0, 1, 2, 2, 4, 5]  # equal: rows 4 and 5, rows 2 and 3
NEAR = [[0, 0, 2, 3, 0, 5], [0, 1, 2, 1, 4, 5]]  # rows 0, 1, 4 by image; rows 1 and 3 by caption
WEIGHTS = [0.1, 3.0, 0.7, 1.1, 0.4, 1.0]


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sides = torch.randn(3, COUNT, 5, generator=torch.manual_seed(3), dtype=torch.float64)
    image, text, other = torch.nn.functional.normalize(sides, dim=-1)
    return image.requires_grad_(), text.requires_grad_(), other


def batch(image: torch.Tensor, text: torch.Tensor, other: torch.Tensor, soft: float = SOFT, **given: Any) -> PairBatch:
    ids = torch.arange(COUNT)[:, None]
    negatives = Negatives(other[:, None], ids + 50, torch.full_like(ids, -1), torch.tensor(TEXTS)[:, None])
    weights, near = torch.tensor(WEIGHTS, dtype=torch.float64), (torch.tensor(NEAR[0]), torch.tensor(NEAR[1]))
    usual: dict[str, Any] = {"negatives": negatives, "weights": weights, "groups": near, "soft": soft, **given}
    return PairBatch(image, text, torch.tensor(IMAGES), torch.tensor(TEXTS), **usual)


def masked(i: int, j: int) -> bool:
    return i != j and (IMAGES[i] == IMAGES[j] or TEXTS[i] == TEXTS[j])


def share(i: int, j: int) -> float:
    """How much of a positive column j is for row i."""
    return 1.0 if i == j else SOFT if any(groups[i] == groups[j] for groups in NEAR) else 0.0


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return sum(a * b for a, b in zip(one.tolist(), other.tolist(), strict=True))


def naive_clip(image: Any, text: Any, other: Any, smoothing: float, hardness: float) -> float:
    total = 0.0
    for i in range(COUNT):
        for rows, columns, further in ((image, text, other), (text, image, ())):
            logits, shares = [], []
            for j in range(COUNT):
                if not masked(i, j):
                    logits.append(cosine(rows[i], columns[j]) * (SCALE + (0 if share(i, j) else hardness)))
                    shares.append(share(i, j))
            for each in further:
                logits.append(cosine(rows[i], each) * (SCALE + hardness))
                shares.append(0.0)
            surprise = [math.log(sum(map(math.exp, logits))) - logit for logit in logits]
            of_target = sum(part * one for part, one in zip(shares, surprise, strict=True)) / sum(shares)
            total += WEIGHTS[i] * ((1 - smoothing) * of_target + smoothing * sum(surprise) / len(surprise)) / 2
    return total / sum(WEIGHTS)


def naive_siglip(image: Any, text: Any, other: Any, bias: float) -> float:
    total = 0.0
    for i in range(COUNT):
        for j in range(COUNT):
            if not masked(i, j):
                logit = SCALE * cosine(image[i], text[j]) + bias
                yes, no = math.log1p(math.exp(-logit)), math.log1p(math.exp(logit))
                total += (WEIGHTS[i] + WEIGHTS[j]) / 2 * (share(i, j) * yes + (1 - share(i, j)) * no)
        for each in other:
            total += WEIGHTS[i] * math.log1p(math.exp(SCALE * cosine(image[i], each) + bias))
    return total / sum(WEIGHTS)


@pytest.mark.parametrize(("smoothing", "hardness"), [(0.0, 0.0), (0.2, 0.0), (0.1, 2.0)])
def test_infonce_equals_a_loop_over_pairs(smoothing: float, hardness: float) -> None:
    image, text, other = made()
    loss = CLIPLoss(smoothing, hardness)(batch(image, text, other), torch.tensor(SCALE, dtype=torch.float64))
    assert loss.item() == pytest.approx(naive_clip(image, text, other, smoothing, hardness), rel=1e-12)


def test_siglip_equals_a_loop_over_pairs() -> None:
    image, text, other = made()
    loss = SigLIPLoss(-1.5).double()(batch(image, text, other), torch.tensor(SCALE, dtype=torch.float64))
    assert loss.item() == pytest.approx(naive_siglip(image, text, other, -1.5), rel=1e-12)


@pytest.mark.parametrize("loss", [CLIPLoss(0.1, 2.0), SigLIPLoss(-1.5), MatryoshkaLoss(CLIPLoss(), (3,))])
def test_without_near_duplicates_the_loss_is_the_plain_one(loss: torch.nn.Module) -> None:
    image, text, other = made()
    alone = (torch.arange(COUNT), torch.arange(COUNT))
    scale = torch.tensor(SCALE, dtype=torch.float64)
    found = [loss(batch(image, text, other, groups=groups), scale) for groups in (alone, None)]
    gradients = [torch.autograd.grad(each, [image, text]) for each in found]
    assert found[0].item() == pytest.approx(found[1].item(), rel=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(*gradients, strict=True))
    assert loss(batch(image, text, other), scale).item() != pytest.approx(found[1].item(), rel=1e-3)
