"""The Matryoshka loss against a loop over sizes and pairs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuner.config.losses import checked_loss_options
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.losses.contrastive import CLIPLoss, PairBatch
from finetuner.executors.trainer.losses.matryoshka import MatryoshkaLoss, with_short_vectors

from ..short_training import equal, trained
from .test_contrastive import IDS, ids_of, naive, pairs

SHORT = {"matryoshka_dims": [64, 16], "matryoshka_weights": [1, 0.5, 2]}


def naive_cut(vectors: list[list[float]], dim: int) -> list[list[float]]:
    """The first numbers of each vector, divided by their length."""
    return [[value / math.sqrt(sum(each**2 for each in row[:dim])) for value in row[:dim]] for row in vectors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("case", IDS)
def test_it_equals_a_loop_over_sizes_and_pairs(case: str, smoothing: float, dtype: torch.dtype) -> None:
    image, text = pairs(5, dtype)
    loss = MatryoshkaLoss(CLIPLoss(smoothing), (4, 1), (1.0, 0.5, 2.0))
    found = loss(PairBatch(image, text, *ids_of(IDS[case])), torch.tensor(3.0, dtype=dtype))
    expected = 0.0
    for size, weight in ((6, 1.0), (4, 0.5), (1, 2.0)):
        cut = naive_cut(image.tolist(), size), naive_cut(text.tolist(), size)
        expected += weight * naive("clip", *cut, 3.0, IDS[case], smoothing) / 3.5
    assert found.dtype == dtype
    assert found.item() == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    image, text = pairs(4)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss_of = MatryoshkaLoss(CLIPLoss(0.1), (4, 2), (1.0, 0.5, 2.0))

    def loss(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> Any:
        return loss_of(PairBatch(image, text, text_ids=torch.tensor([0, 0, 1, 2])), scale)

    assert torch.autograd.gradcheck(loss, (image, text, scale))


def test_every_size_weighs_the_same_by_default_and_only_their_ratio_matters() -> None:
    batch, scale = PairBatch(*pairs(5)), torch.tensor(3.0)
    plain = MatryoshkaLoss(CLIPLoss(), (4, 2))(batch, scale)
    torch.testing.assert_close(plain, MatryoshkaLoss(CLIPLoss(), (4, 2), (7.0, 7.0, 7.0))(batch, scale))
    assert not torch.isclose(plain, CLIPLoss()(batch, scale))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_scales_and_vanishing_first_numbers_stay_finite(scale: float) -> None:
    image, text = pairs(5, torch.float32)
    image, text = (side.detach().clone() for side in (image, text))
    image[0, :2] = 0
    image.requires_grad_()
    text.requires_grad_()
    loss = MatryoshkaLoss(CLIPLoss(), (2,))(PairBatch(image, text), torch.tensor(scale))
    loss.backward()
    assert loss.isfinite()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_the_options_make_the_loss_around_the_others() -> None:
    options = checked_loss_options("CLIPLoss", {**SHORT, "label_smoothing": 0.1}, 128)
    loss = with_short_vectors(CLIPLoss, options)
    assert isinstance(loss, MatryoshkaLoss)
    assert isinstance(loss.loss, CLIPLoss)
    assert (loss.dims, loss.weights, loss.loss.label_smoothing) == ((64, 16), (1.0, 0.5, 2.0), 0.1)
    assert isinstance(with_short_vectors(CLIPLoss, {"label_smoothing": 0.1}), CLIPLoss)


@pytest.mark.seconds
def test_sizes_and_weights_change_the_weights_of_a_run(blobs_of_colour: TrainingData) -> None:
    runs = [
        trained(blobs_of_colour, epochs=1, loss_options=options)[0].model.network.state_dict()
        for options in ({}, {"matryoshka_dims": [64, 16]}, {"matryoshka_dims": [64]}, SHORT)
    ]
    assert not any(equal(left, right) for at, left in enumerate(runs) for right in runs[:at])


@pytest.mark.seconds
def test_a_batch_in_parts_has_the_same_loss(blobs_of_colour: TrainingData) -> None:
    losses = [
        trained(blobs_of_colour, epochs=1, batch_size=8, loss_options=SHORT, training_options=options)[1][0]["loss"]
        for options in ({}, {"micro_batch_size": 3})
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.seconds
def test_a_resumed_run_ends_in_the_same_weights(blobs_of_colour: TrainingData, tmp_path: Path) -> None:
    whole, _ = trained(blobs_of_colour, epochs=2, loss_options=SHORT)
    for epochs in (1, 2):
        resumed, _ = trained(blobs_of_colour, epochs=epochs, loss_options=SHORT, checkpoint=tmp_path / "checkpoint.pt")
    assert equal(resumed.model.network.state_dict(), whole.model.network.state_dict())
