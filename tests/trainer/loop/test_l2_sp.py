"""L2-SP of `optimization` against a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.loop.optimization import PullToStart
from finetuner.models.clip import Clip
from tests.trainer.short_training import trained


def naive(start: list[float], rates: list[float], gradients: list[list[float]], alpha: float) -> list[float]:
    """Weights of SGD: w -= rate * alpha * (w - w0), then w -= rate * gradient."""
    weights = list(start)
    for rate, gradient in zip(rates, gradients, strict=True):
        for row, first in enumerate(start):
            weights[row] -= min(rate * alpha, 1) * (weights[row] - first)
            weights[row] -= rate * gradient[row]
    return weights


@pytest.mark.parametrize("alpha", [0.0, 0.7, 3.0, 100.0])
def test_the_pull_equals_a_plain_loop(alpha: float) -> None:
    start, rates = [0.5, -2.0, 3.0], [0.1, 0.2, 0.05, 0.1]
    gradients = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    pull = PullToStart(optimizer, alpha)
    for rate, gradient in zip(rates, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weights.grad = gradient.clone()
        pull.apply()
        optimizer.step()
    assert weights.tolist() == pytest.approx(naive(start, rates, gradients.tolist(), alpha), abs=1e-10)


def test_with_sgd_it_is_the_gradient_of_the_penalty() -> None:
    start = torch.tensor([1.0, -1.0], dtype=torch.float64)
    weights = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([weights], lr=0.1)
    pull = PullToStart(optimizer, 4.0)
    with torch.no_grad():
        weights += torch.tensor([0.5, 0.25])
    penalised = weights.detach().clone().requires_grad_()
    (4.0 / 2 * (penalised - start).square().sum()).backward()
    pull.apply()
    assert penalised.grad is not None
    assert torch.allclose(weights, penalised - 0.1 * penalised.grad, atol=1e-12)


@pytest.mark.seconds
def test_a_strong_pull_ends_nearer_to_the_start(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    def distance(**fields: Any) -> float:
        tuned = trained(blobs_of_colour, epochs=4, **fields)[0].model.network.state_dict()
        start = clip_mini.network.state_dict()
        return float(sum(((tuned[name] - value) ** 2).sum() for name, value in start.items()))

    distances = [distance(training_options={"l2_sp": alpha}) for alpha in (0.0, 100.0, 2000.0)]
    assert distances[2] < distances[1] < distances[0]
