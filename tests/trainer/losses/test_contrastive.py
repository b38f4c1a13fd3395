"""Losses against loops over pairs, with false negatives and extreme scales."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss

from finetuner.executors.trainer.losses.contrastive import CLIPLoss, Negatives, PairBatch, SigLIPLoss

IDS = {
    "all differ": ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    "equal captions": ([0, 1, 2, 3, 4], [7, 7, 1, 2, 7]),
    "equal images": ([3, 1, 1, 3, 0], [0, 1, 2, 3, 4]),
    "both": ([3, 1, 1, 3, 0], [7, 1, 7, 2, 2]),
    "all equal": ([5] * 5, [0, 1, 2, 3, 4]),
}


def pairs(count: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    both = torch.randn(2, count, 6, generator=generator, dtype=torch.float64)
    image, text = torch.nn.functional.normalize(both, dim=-1).to(dtype)
    return image.requires_grad_(), text.requires_grad_()


def ids_of(values: tuple[list[int], list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(values[0]), torch.tensor(values[1])


def naive(
    kind: str, image: Any, text: Any, scale: float, ids: Any, smoothing: float = 0.0, bias: float = 0.0,
    further: Any = ((),) * 5, weights: Any = None, hardness: float = 0.0,
) -> float:  # fmt: skip
    """Both losses by their definitions, one pair of pairs at a time. `further`: for each image, (text, counts)."""
    count = len(image)
    weights = weights or [1.0] * count
    cosines = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in text] for row in image]

    def counts(i: int, j: int) -> bool:
        return i == j or (ids[0][i] != ids[0][j] and ids[1][i] != ids[1][j])

    total = 0.0
    if kind == "siglip":
        for i in range(count):
            for j in range(count):
                sign = 1 if i == j else -1
                if counts(i, j):
                    one = math.log1p(math.exp(-sign * (scale * cosines[i][j] + bias)))
                    total += weights[i] * one / 2 + weights[j] * one / 2
            for other in further[i]:
                cosine = sum(a * b for a, b in zip(image[i], other, strict=True))
                total += weights[i] * math.log1p(math.exp(scale * cosine + bias))
        return total / sum(weights)
    for i in range(count):
        for logits in (
            {j: (scale + hardness * (j != i)) * cosines[i][j] for j in range(count) if counts(i, j)}
            | {
                count + at: (scale + hardness) * sum(a * b for a, b in zip(image[i], other, strict=True))
                for at, other in enumerate(further[i])
            },
            {j: (scale + hardness * (j != i)) * cosines[j][i] for j in range(count) if counts(i, j)},
        ):
            logs = {j: value - math.log(sum(map(math.exp, logits.values()))) for j, value in logits.items()}
            total -= weights[i] * ((1 - smoothing) * logs[i] + smoothing * sum(logs.values()) / len(logs))
    return total / (2 * sum(weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("case", IDS)
def test_infonce_equals_a_loop_over_pairs(case: str, smoothing: float, dtype: torch.dtype) -> None:
    image, text = pairs(5, dtype)
    loss = CLIPLoss(smoothing)(PairBatch(image, text, *ids_of(IDS[case])), torch.tensor(3.0, dtype=dtype))
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, IDS[case], smoothing)
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", IDS)
def test_siglip_equals_a_loop_over_pairs(case: str, dtype: torch.dtype) -> None:
    image, text = pairs(5, dtype)
    loss = SigLIPLoss(-1.5)(PairBatch(image, text, *ids_of(IDS[case])), torch.tensor(3.0, dtype=dtype))
    expected = naive("siglip", image.tolist(), text.tolist(), 3.0, IDS[case], bias=-1.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-6)


WEIGHTS = [0.1, 3.0, 0.7, 1.1, 0.4]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("case", IDS)
def test_weighted_infonce_equals_a_loop_over_pairs(case: str, smoothing: float) -> None:
    image, text = pairs(5)
    batch = PairBatch(image, text, *ids_of(IDS[case]), weights=torch.tensor(WEIGHTS, dtype=torch.float64))
    loss = CLIPLoss(smoothing)(batch, torch.tensor(3.0, dtype=torch.float64))
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, IDS[case], smoothing, weights=WEIGHTS)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", IDS)
def test_weighted_siglip_equals_a_loop_over_pairs(case: str) -> None:
    image, text = pairs(5)
    batch = PairBatch(image, text, *ids_of(IDS[case]), weights=torch.tensor(WEIGHTS, dtype=torch.float64))
    loss = SigLIPLoss(-1.5).double()(batch, torch.tensor(3.0, dtype=torch.float64))
    expected = naive("siglip", image.tolist(), text.tolist(), 3.0, IDS[case], bias=-1.5, weights=WEIGHTS)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss_of", [CLIPLoss(), CLIPLoss(0.1), SigLIPLoss()], ids=["clip", "smooth", "siglip"])
def test_equal_weights_of_any_size_change_nothing(loss_of: torch.nn.Module) -> None:
    image, text = pairs(5)
    scale = torch.tensor(4.0)
    plain = loss_of(PairBatch(image, text, *ids_of(IDS["both"])), scale)
    for size in (1e-3, 1.0, 50.0):
        weighted = loss_of(PairBatch(image, text, *ids_of(IDS["both"]), weights=torch.full((5,), size)), scale)
        torch.testing.assert_close(weighted, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss_of", [CLIPLoss(0.1), SigLIPLoss(-1.0)], ids=["clip", "siglip"])
def test_weighted_gradients_are_those_of_finite_differences(loss_of: torch.nn.Module) -> None:
    image, text = pairs(4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss_of.double()
    weights = torch.tensor(WEIGHTS[:4], dtype=torch.float64)

    def loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> Any:
        return loss_of(PairBatch(image, text, text_ids=torch.tensor([0, 0, 1, 2]), weights=weights), scale)

    assert torch.autograd.gradcheck(loss, (image, text, scale))


@pytest.mark.parametrize("count", [2, 7])
def test_without_ids_the_losses_equal_open_clips(count: int) -> None:
    image, text = pairs(count, torch.float32)
    scale = torch.tensor(20.0)
    ours = CLIPLoss()(PairBatch(image, text), scale)
    assert ours.item() == pytest.approx(ClipLoss()(image, text, scale).item(), rel=1e-6)
    theirs = SigLipLoss()(image, text, scale, torch.tensor(-10.0))
    assert SigLIPLoss()(PairBatch(image, text), scale).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_ids_that_all_differ_change_nothing() -> None:
    image, text = pairs(5)
    for loss_of in (CLIPLoss(), CLIPLoss(0.1), SigLIPLoss()):
        scale = torch.tensor(4.0)
        with_ids = loss_of(PairBatch(image, text, *ids_of(IDS["all differ"])), scale)
        torch.testing.assert_close(with_ids, loss_of(PairBatch(image, text), scale), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss_of", [CLIPLoss(), CLIPLoss(0.2), SigLIPLoss(-1.5)], ids=["clip", "smooth", "siglip"])
@pytest.mark.parametrize("labels", [[-1] * 5, [0, -1, 0, -1, 0], [2, 2, 1, 1, -1], [0] * 5], ids=str)
def test_pairs_with_the_same_label_are_no_negatives(loss_of: Any, labels: list[int]) -> None:
    image, text = pairs(5)
    found = loss_of(PairBatch(image, text, label_ids=torch.tensor(labels)), torch.tensor(3.0))
    alone = [label if label >= 0 else 10 + row for row, label in enumerate(labels)]
    smoothing = getattr(loss_of, "label_smoothing", 0.0)
    kind = "siglip" if isinstance(loss_of, SigLIPLoss) else "clip"
    expected = naive(kind, image.tolist(), text.tolist(), 3.0, (alone, list(range(5))), smoothing, bias=-1.5)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss_of", [CLIPLoss(), CLIPLoss(0.2), SigLIPLoss(-1.5)], ids=["clip", "smooth", "siglip"])
@pytest.mark.parametrize("with_ids", [False, True])
def test_negatives_are_further_captions_of_every_image(loss_of: Any, with_ids: bool) -> None:
    image, text = pairs(5)
    generator = torch.Generator().manual_seed(9)
    given = torch.nn.functional.normalize(torch.randn(5, 2, 6, generator=generator, dtype=torch.float64), dim=-1)
    numbers = [[10, -1], [11, 12], [-1, -1], [13, 1], [20, -1]]  # 1 and 20 are captions of the images 1 and 2
    labels = [[-1, -1], [-1, 7], [-1, -1], [-1, -1], [-1, -1]]  # 7 is the label of the pair 4
    known = [[0, -1], [1, -1], [2, 20], [3, -1], [4, -1]]
    own_labels = [-1, -1, -1, -1, 7]
    negatives = Negatives(given.requires_grad_(), *map(torch.tensor, (numbers, labels, known)))
    ids = {"text_ids": torch.arange(5), "label_ids": torch.tensor(own_labels)} if with_ids else {}
    found = loss_of(PairBatch(image, text, **ids, negatives=negatives), torch.tensor(3.0))
    further = [
        [
            given[row, at].tolist()
            for row in range(5)
            for at in range(2)
            if numbers[row][at] >= 0
            and numbers[row][at] not in known[i]
            and not (with_ids and labels[row][at] == own_labels[i] >= 0)
        ]
        for i in range(5)
    ]
    assert [len(each) for each in further] == [6, 5, 5, 6, 5 if with_ids else 6]
    kind, smoothing = "siglip" if isinstance(loss_of, SigLIPLoss) else "clip", getattr(loss_of, "label_smoothing", 0.0)
    expected = naive(kind, image.tolist(), text.tolist(), 3.0, (range(5), range(5)), smoothing, -1.5, further)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    found.backward()
    places = torch.tensor(numbers) < 0
    assert not given.grad[places].any()  # type: ignore[index]
    assert given.grad[~places].any(-1).all()  # type: ignore[index]


@pytest.mark.parametrize("which", ["image_ids", "text_ids"])
def test_either_kind_of_ids_may_come_alone(which: str) -> None:
    image, text = pairs(5)
    ids = torch.tensor([1, 1, 2, 2, 3])
    loss = CLIPLoss()(PairBatch(image, text, **{which: ids}), torch.tensor(3.0))
    others = list(range(5))
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, (ids.tolist(), others))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("hardness", [0.0, 2.0, 100.0])
@pytest.mark.parametrize("case", IDS)
def test_hardness_equals_a_loop_over_pairs(case: str, hardness: float) -> None:
    image, text = pairs(5)
    found = CLIPLoss(0.1, hardness)(PairBatch(image, text, *ids_of(IDS[case])), torch.tensor(3.0))
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, IDS[case], 0.1, hardness=hardness)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_hardness_weighs_explicit_negatives_too() -> None:
    image, text = pairs(5)
    given = torch.nn.functional.normalize(torch.randn(5, 1, 6, dtype=torch.float64), dim=-1)
    ids = torch.arange(10, 15)[:, None]
    negatives = Negatives(given, ids, torch.full((5, 1), -1), torch.arange(5)[:, None])
    found = CLIPLoss(hardness=2.0)(PairBatch(image, text, negatives=negatives), torch.tensor(3.0))
    further = [given[:, 0].tolist()] * 5
    everyone = (range(5), range(5))
    expected = naive("clip", image.tolist(), text.tolist(), 3.0, everyone, further=further, hardness=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_hardness_is_a_weight_without_a_gradient_of_its_own() -> None:
    image, text = pairs(4)
    scale = torch.tensor(2.0, dtype=torch.float64)
    CLIPLoss(hardness=3.0)(PairBatch(image, text), scale).backward()
    fixed = (image @ text.T).detach() * (1 - torch.eye(4))
    other = image.detach().requires_grad_()
    logits = 2.0 * other @ text.detach().T + 3.0 * fixed
    both = torch.nn.functional.cross_entropy(logits, torch.arange(4)) + torch.nn.functional.cross_entropy(
        logits.T, torch.arange(4)
    )
    (both / 2).backward()
    torch.testing.assert_close(image.grad, other.grad)


def test_no_hardness_is_plain_bit_for_bit() -> None:
    image, text = pairs(5, torch.float32)
    losses = [loss_of(PairBatch(image, text), torch.tensor(50.0)) for loss_of in (CLIPLoss(), CLIPLoss(0.0, 0.0))]
    assert torch.equal(*losses)


def test_a_false_negative_gets_no_gradient_from_the_pair_it_equals() -> None:
    image, text = pairs(3)
    ids = torch.tensor([0, 0, 1])
    only_first = CLIPLoss()(PairBatch(image[:2], text[:2], text_ids=ids[:2]), torch.tensor(5.0))
    assert only_first.item() == 0
    only_first.backward()
    assert not image.grad[:2].any()  # type: ignore[index]


@pytest.mark.parametrize("scale", [1e-4, 100.0, 1e4])
@pytest.mark.parametrize("case", IDS)
@pytest.mark.parametrize("loss_of", [CLIPLoss(), CLIPLoss(0.1), SigLIPLoss()], ids=["clip", "smooth", "siglip"])
def test_extreme_scales_and_duplicates_stay_finite(loss_of: torch.nn.Module, case: str, scale: float) -> None:
    image, text = pairs(5, torch.float32)
    logit_scale = torch.tensor(scale, requires_grad=True)
    loss = loss_of(PairBatch(image, text, *ids_of(IDS[case])), logit_scale)
    loss.backward()
    assert loss.isfinite()
    for value in (image, text, logit_scale):
        assert value.grad is not None
        assert value.grad.isfinite().all()


@pytest.mark.parametrize("loss_of", [CLIPLoss(0.1), SigLIPLoss(-1.0)], ids=["clip", "siglip"])
def test_gradients_are_those_of_finite_differences(loss_of: torch.nn.Module) -> None:
    image, text = pairs(4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 0, 1, 2])
    loss_of.double()

    def loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> Any:
        return loss_of(PairBatch(image, text, text_ids=ids), scale)

    assert torch.autograd.gradcheck(loss, (image, text, scale))


def test_half_precision_is_scored_in_full() -> None:
    image, text = (side.detach().bfloat16() for side in pairs(5, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CLIPLoss()(PairBatch(image, text), torch.tensor(100.0))
    assert loss.dtype == torch.float32
    full = CLIPLoss()(PairBatch(image.float(), text.float()), torch.tensor(100.0))
    assert loss.item() == pytest.approx(full.item())


def test_siglips_bias_is_trained_and_may_belong_to_the_network() -> None:
    image, text = pairs(4, torch.float32)
    own = SigLIPLoss(-3.0)
    own(PairBatch(image, text), torch.tensor(5.0)).backward()
    assert own.logit_bias.item() == -3.0
    assert own.logit_bias.grad
    shared = torch.nn.Parameter(torch.tensor(-3.0))
    SigLIPLoss(shared)(PairBatch(image, text), torch.tensor(5.0)).backward()
    torch.testing.assert_close(shared.grad, own.logit_bias.grad)
