"""Schedule and optimizer against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from executors.trainer.optimization import learning_rate_factor, make_optimizer
from finetuner.run_config import RunConfig


def config(**fields: object) -> RunConfig:
    return RunConfig(model="clip-mini", train_data="data", **fields)  # type: ignore[arg-type]


def naive_cosine(step: int, warm_up: int, total: int) -> float:
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    angle = math.pi * (step - warm_up) / (total - warm_up)
    return 0.1 + 0.9 * (1 + math.cos(angle)) / 2


@pytest.mark.parametrize(
    ("options", "steps", "warm_up", "total"),
    [
        ({}, 200, 10, 200),
        ({"num_warmup_steps": 0}, 50, 0, 50),
        ({"num_warmup_steps": 7, "num_training_steps": 90}, 50, 7, 90),
    ],
)
def test_cosine_equals_its_formula(options: dict[str, int], steps: int, warm_up: int, total: int) -> None:
    factor = learning_rate_factor("cosine", options, steps)
    assert [factor(step) for step in range(steps)] == pytest.approx(
        [naive_cosine(step, warm_up, total) for step in range(steps)], abs=1e-12
    )
    assert factor(warm_up) == 1.0


def test_warm_up_rises_by_equal_steps_to_the_peak() -> None:
    factor = learning_rate_factor("cosine", {"num_warmup_steps": 4}, 20)
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_stays_at_a_tenth_past_its_end() -> None:
    factor = learning_rate_factor("cosine", {"num_training_steps": 10}, 30)
    assert [factor(step) for step in (10, 11, 29)] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_warm_up_longer_than_the_run_is_no_error(steps: int) -> None:
    factor = learning_rate_factor("cosine", {"num_warmup_steps": 100}, steps)
    assert all(0 < factor(step) < 1 for step in range(steps))


@pytest.mark.parametrize("scheduler", [None, "constant"])
def test_constant_never_changes(scheduler: str | None) -> None:
    factor = learning_rate_factor(scheduler, {}, 10)
    assert {factor(step) for step in range(10)} == {1.0}


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_weight_decay_spares_one_dimensional_parameters(optimizer: str) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    torch.nn.init.constant_(network[0].bias, 0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = make_optimizer(network, config(optimizer=optimizer, optimizer_options={"weight_decay": 0.5}), 0.01)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"0.weight"}
    if optimizer == "AdamW":
        torch.testing.assert_close(after["0.weight"], before["0.weight"] * (1 - 0.01 * 0.5))


def test_every_trainable_parameter_is_tuned_once() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    network[0].weight.requires_grad_(False)
    made = make_optimizer(network, config(), 0.01)
    tuned = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    assert sorted(tuned) == sorted(id(value) for value in network.parameters() if value.requires_grad)


def test_defaults_are_clips_and_options_replace_them() -> None:
    network = torch.nn.Linear(2, 2)
    group = make_optimizer(network, config(optimizer="AdamW"), 0.25).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.25, (0.9, 0.98), 1e-6, 0.1)
    options = {"beta1": 0.5, "beta2": 0.6, "eps": 1e-3, "weight_decay": 0.7}
    group = make_optimizer(network, config(optimizer_options=options), 0.25).param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.6), 1e-3, 0.7)
