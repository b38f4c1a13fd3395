"""Schedule and optimizer against their definitions."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from finetuner.config.optimizer_config import LAYER_DECAY, OPTIMIZER_OPTIONS, OPTIMIZERS, OWN_OPTIONS, SCHEDULERS
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.loop.layer_decay import depths
from finetuner.executors.trainer.loop.optimization import (
    MECHANICS,
    learning_rate_factor,
    make_optimizer,
    resolved_options,
    resolved_schedule,
)
from finetuner.models.clip import Clip

# LBFGS calls the loss several times a step, SparseAdam takes sparse gradients only, Muon matrices only.
LEFT_OUT = {"LBFGS", "SparseAdam", "Muon", "Optimizer"}


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


@pytest.mark.parametrize(
    ("scheduler", "options", "expected"),
    [
        (None, {}, {}),
        ("constant", {"num_warmup_steps": 3}, {}),
        ("linear", {}, {"scheduler_step": "batch", "num_training_steps": 100, "num_warmup_steps": 5}),
        (
            "polynomial",
            {"scheduler_step": "epoch", "num_warmup_steps": 0},
            {"scheduler_step": "epoch", "num_training_steps": 4, "num_warmup_steps": 0, "power": 1.0},
        ),
        (
            "cosine_with_restarts",
            {"num_cycles": 2},
            {"scheduler_step": "batch", "num_training_steps": 100, "num_warmup_steps": 5, "num_cycles": 2},
        ),
    ],
)
def test_a_schedule_with_its_defaults(scheduler: str | None, options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert resolved_schedule(scheduler, options, 100, 4) == expected


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS)))
def test_the_options_of_every_optimizer_are_json(name: str) -> None:
    network = torch.nn.Linear(2, 2)
    found = resolved_options(make_optimizer(network, config(optimizer=name), 0.1))
    assert json.loads(json.dumps(found)) == found
    assert not MECHANICS & set(found)
    if name == "AdamW":
        assert (found["betas"], found["eps"], found["weight_decay"]) == ([0.9, 0.98], 1e-6, 0.1)


def test_warm_up_is_linear_up_to_the_peak() -> None:
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
def test_weight_decay_does_not_apply_to_one_dimensional_parameters(optimizer: str) -> None:
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


@pytest.mark.parametrize(
    ("scheduler", "theirs", "options"),
    [
        ("linear", "linear", {}),
        ("cosine_with_restarts", "cosine_with_restarts", {"num_cycles": 3}),
        ("cosine_with_restarts", "cosine_with_restarts", {}),
        ("polynomial", "polynomial", {"power": 2.0}),
        ("polynomial", "polynomial", {}),
        ("constant_with_warmup", "constant_with_warmup", {}),
        ("constant", "constant", None),
    ],
)
@pytest.mark.parametrize("warm_up", [0, 7])
def test_schedules_are_those_of_transformers(
    scheduler: str, theirs: str, options: dict[str, Any] | None, warm_up: int
) -> None:
    ours = learning_rate_factor(scheduler, {} if options is None else {"num_warmup_steps": warm_up, **options}, 40)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler(theirs, optimizer, warm_up, 40, scheduler_specific_kwargs=options or None)
    expected = [float(made.lr_lambdas[0](step)) for step in range(50)]  # type: ignore[attr-defined]
    found = [ours(step) for step in range(50)]
    assert found[warm_up:] == pytest.approx(expected[warm_up:], abs=2e-7)  # polynomial's end is 1e-7 there, 0 here
    if options is not None:  # the warm-up's steps are ours: from 1 / (n + 1), not from 0
        assert found[:warm_up] == pytest.approx([(step + 1) / (warm_up + 1) for step in range(warm_up)])


def test_cosine_is_that_of_transformers_above_a_tenth() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs: Any = get_scheduler("cosine", optimizer, 5, 40)
    ours = learning_rate_factor("cosine", {"num_warmup_steps": 5}, 40)
    expected = [0.1 + 0.9 * theirs.lr_lambdas[0](step) for step in range(5, 40)]
    assert [ours(step) for step in range(5, 40)] == pytest.approx(expected)


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != "constant"])
def test_a_schedule_by_epoch_changes_between_epochs_only(scheduler: str) -> None:
    options = {"num_warmup_steps": 2, "scheduler_step": "epoch"}
    by_epoch = learning_rate_factor(scheduler, options, steps=60, epochs=10)
    each = learning_rate_factor(scheduler, {"num_warmup_steps": 2}, steps=10)
    assert [by_epoch(step) for step in range(60)] == [each(step // 6) for step in range(60)]
    shorter = learning_rate_factor(scheduler, {**options, "num_training_steps": 5}, steps=60, epochs=10)
    assert shorter(59) == learning_rate_factor(scheduler, {"num_warmup_steps": 2}, steps=5)(9)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_every_schedule_stays_between_zero_and_the_peak(scheduler: str, steps: int) -> None:
    factor = learning_rate_factor(scheduler, {}, steps)
    found = [factor(step) for step in range(steps + 3)]
    assert all(0 <= value <= 1 for value in found)
    assert all(value > 0 for value in found[:steps])


def test_the_table_is_torchs() -> None:
    theirs = {
        name: set(inspect.signature(kind).parameters) - MECHANICS - {"params"}
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name not in LEFT_OUT
    }
    theirs["ASGD"].remove("t0")  # moves an average that is not used
    assert {name: set(options) - {"beta1", "beta2"} for name, options in OWN_OPTIONS.items()} == theirs


def other_value(optimizer: str, name: str) -> Any:
    """A valid value of an option other than its default."""
    special = {
        "betas": [0.5, 0.6], "etas": [0.3, 1.7], "step_sizes": [1e-4, 2e-2], "beta2_decay": -0.1, "d": 1.5,
        "alpha": 0.5, "lambd": 0.9, "initial_accumulator_value": 0.5,
    }  # fmt: skip
    if optimizer == "Adafactor" and name == "eps":
        return [1e-2, 0.5]
    if OPTIMIZER_OPTIONS[optimizer][name] is None:
        return True
    return special.get(name, 0.25)


def trained(optimizer: str, options: dict[str, Any]) -> list[torch.Tensor]:
    """The weights after some steps towards a far point."""
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    made = make_optimizer(network, config(optimizer=optimizer, optimizer_options=options), 0.1)
    for step, share in enumerate((1.0, 0.1, 0.01, 100.0, 1.0, 10.0, 1.0, 1.0)):
        made.zero_grad()
        loss = (network(torch.tensor([[1.0, -2.0, 0.5 + step]])) - 3 * (-1) ** step).square().sum()
        (loss * share).backward()
        made.step()
    return [parameter.detach().clone() for parameter in network.parameters()]


# These only have an effect together with another option.
COMPANIONS = {
    "dampening": {"momentum": 0.9}, "nesterov": {"momentum": 0.9}, "decoupled_weight_decay": {"weight_decay": 0.3},
    "alpha": {"lambd": 0.9},
}  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "name"), [(optimizer, name) for optimizer in OPTIMIZERS for name in OWN_OPTIONS[optimizer]]
)
def test_every_option_of_every_optimizer_does_something(optimizer: str, name: str) -> None:
    base = {key: value for key, value in COMPANIONS.get(name, {}).items() if key in OWN_OPTIONS[optimizer]}
    usual = trained(optimizer, base)
    other = trained(optimizer, {**base, name: other_value(optimizer, name)})
    assert any(not torch.equal(before, after) for before, after in zip(usual, other, strict=True))
    assert all(value.isfinite().all() for value in other)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_defaults_are_torchs_but_for_clips(optimizer: str) -> None:
    network = torch.nn.Linear(3, 2)
    made = make_optimizer(network, config(optimizer=optimizer), 0.1)
    plain = getattr(torch.optim, optimizer)(network.parameters(), lr=0.1)
    clips = {"Adam": {"betas", "eps", "fused"}, "AdamW": {"betas", "eps", "fused", "weight_decay"}}
    differing = {key for key, value in made.defaults.items() if value != plain.defaults[key]}
    assert differing <= clips.get(optimizer, {"fused"})
    assert [group["weight_decay"] for group in made.param_groups] == [0.1 if optimizer == "AdamW" else 0.0, 0.0]
    assert made.defaults.get("fused") is (True if "fused" in plain.defaults else None)


@pytest.mark.parametrize("options", [{"betas": [0.5, 0.6]}, {"beta1": 0.5, "beta2": 0.6}])
def test_betas_have_two_spellings(options: dict[str, Any]) -> None:
    network = torch.nn.Linear(2, 2)
    for optimizer in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam"):
        made = make_optimizer(network, config(optimizer=optimizer, optimizer_options=options), 0.1)
        assert made.param_groups[0]["betas"] == (0.5, 0.6)


def test_one_beta_leaves_the_other() -> None:
    made = make_optimizer(torch.nn.Linear(2, 2), config(optimizer="NAdam", optimizer_options={"beta1": 0.5}), 0.1)
    assert made.param_groups[0]["betas"] == (0.5, 0.999)


def test_deeper_layers_learn_more_slowly(clip_mini: Clip) -> None:
    options = {LAYER_DECAY: 0.5, "weight_decay": 0.2}
    made = make_optimizer(clip_mini.network, config(optimizer="AdamW", optimizer_options=options), 0.1)
    rates = {
        id(value): (group["lr"], group["weight_decay"]) for group in made.param_groups for value in group["params"]
    }
    depth_of = depths(clip_mini.network)
    named = dict(clip_mini.network.named_parameters())
    assert len(rates) == len(named)
    for name, parameter in named.items():
        rate, decay = rates[id(parameter)]
        assert rate == pytest.approx(0.1 * 0.5 ** depth_of[name])
        assert decay == (0.2 if parameter.ndim >= 2 else 0.0)
    assert made.param_groups[0]["lr"] == 0.1  # the reported learning rate
    scheduler = torch.optim.lr_scheduler.LambdaLR(made, learning_rate_factor("linear", {"num_warmup_steps": 0}, 4))
    made.step()
    scheduler.step()
    assert {round(group["lr"] / group["initial_lr"], 9) for group in made.param_groups} == {0.75}


def test_no_layer_decay_has_two_groups(clip_mini: Clip) -> None:
    for options in ({}, {LAYER_DECAY: 1.0}):
        made = make_optimizer(clip_mini.network, config(optimizer_options=options), 0.1)
        assert [group["lr"] for group in made.param_groups] == [0.1, 0.1]


def test_a_frozen_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="something to train. Got all of it frozen"):
        make_optimizer(torch.nn.Linear(2, 2).requires_grad_(requires_grad=False), config(), 0.1)
