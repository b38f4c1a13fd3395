"""Names, options and ranges of optimizers and schedules."""

from __future__ import annotations

import re
from typing import Any

import pytest

from finetuner.config.optimizer_config import (
    OPTIMIZER_OPTIONS,
    OPTIMIZERS,
    SCHEDULERS,
    checked_optimizer_options,
    checked_scheduler_options,
)
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_range_includes_its_ends_only(optimizer: str) -> None:
    for name, rule in OPTIMIZER_OPTIONS[optimizer].items():
        what = re.escape(f"optimizer_options[{name!r}] must be")
        if rule is None:
            assert checked_optimizer_options("AdamW", {"amsgrad": True}) == {"amsgrad": True}
            with pytest.raises(InvalidInput, match=f"{what} True or False. Got 1"):
                checked_optimizer_options(optimizer, {name: 1})
        elif isinstance(rule[0], tuple):
            (low, high), (other_low, other_high) = rule  # type: ignore[misc]
            for pair in ([low, other_low], (high, other_high)):
                if name != "step_sizes" or pair[0] <= pair[1]:
                    assert checked_optimizer_options(optimizer, {name: pair}) == {name: list(pair)}
            for wrong in ([low - 1, other_high], [low, other_high + 1], [low], low, "ab", [None, other_low]):
                with pytest.raises(InvalidInput, match=what):
                    checked_optimizer_options(optimizer, {name: wrong})
        else:
            low, high = rule
            for value in (low, high):
                assert checked_optimizer_options(optimizer, {name: value}) == {name: value}
            for wrong in (low - 1, high + 1, float("nan"), "0.1", True):
                with pytest.raises(InvalidInput, match=what):
                    checked_optimizer_options(optimizer, {name: wrong})


@pytest.mark.parametrize(
    ("optimizer", "given", "expected"),
    [
        (
            "SGD",
            {"betas": [0.9, 0.99]},
            "must have keys of weight_decay, momentum, dampening, nesterov, .* Got betas",
        ),
        ("Adam", {"momentum": 0.9}, "must have keys of weight_decay, eps, beta1, .*Got momentum"),
        ("Adam", {"lr": 0.1}, "Got lr"),
        ("Adam", {"betas": [0.9, 0.99], "beta1": 0.8}, "must have betas or beta1 and beta2. Got both"),
        ("SGD", {"nesterov": True}, "nesterov needs momentum above 0"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "and no dampening"),
        ("Rprop", {"step_sizes": [0.5, 0.1]}, r"must be \(low, high\). Got \[0.5, 0.1\]"),
        ("Adam", {"layer_wise_lr_decay": 0}, r"must be a number in \[0.001, 1.0\]. Got 0"),
    ],
)
def test_the_error_names_the_wrong_option(optimizer: str, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected) as caught:
        checked_optimizer_options(optimizer, given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheduler", "given", "expected"),
    [
        ("cosine", {"num_training_steps": "auto", "num_warmup_steps": 3.0}, {"num_warmup_steps": 3}),
        ("linear", {"scheduler_step": "epoch"}, {"scheduler_step": "epoch"}),
        ("polynomial", {"power": 2}, {"power": 2.0}),
        ("cosine_with_restarts", {"num_cycles": 4}, {"num_cycles": 4}),
        ("constant_with_warmup", {"num_warmup_steps": 0}, {"num_warmup_steps": 0}),
        (None, {}, {}),
    ],
)  # fmt: skip
def test_options_of_schedules(scheduler: str | None, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert checked_scheduler_options(scheduler, given) == expected


@pytest.mark.parametrize(
    ("scheduler", "given", "expected"),
    [
        ("constant", {"num_warmup_steps": 1}, "need a scheduler of constant_with_warmup, cosine, .*Got 'constant'"),
        (None, {"scheduler_step": "batch"}, "need a scheduler of .*Got None"),
        ("linear", {"power": 2}, "keys of num_warmup_steps, num_training_steps, scheduler_step. Got power"),
        ("linear", {"scheduler_step": "epochs"}, "one of batch, epoch. Got 'epochs'. Did you mean 'epoch'"),
        ("linear", {"num_warmup_steps": "auto"}, "must be a whole number.*Got 'auto'"),
        ("linear", {"num_training_steps": 0}, "must be a whole number.*Got 0"),
        ("polynomial", {"power": 0}, "must be a number in .*Got 0"),
        ("cosine_with_restarts", {"num_cycles": 0.5}, "must be a whole number.*Got 0.5"),
        ("linear", 3, "must be a mapping with keys of num_warmup_steps"),
    ],
)
def test_the_error_names_the_wrong_option_of_a_schedule(scheduler: str | None, given: Any, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        checked_scheduler_options(scheduler, given)


def test_a_run_takes_every_name_and_checks_the_options_of_a_loss_optimizer() -> None:
    for optimizer in OPTIMIZERS:
        assert RunConfig("clip-mini", "data", optimizer=optimizer).optimizer == optimizer
    for scheduler in SCHEDULERS:
        assert RunConfig("clip-mini", "data", scheduler=scheduler).scheduler == scheduler
    with pytest.raises(InvalidInput, match="loss_optimizer_options must have keys of .*momentum.* Got beta1"):
        RunConfig(
            "resnet-base", "data", loss="ArcFaceLoss", optimizer="SGD", loss_optimizer_options={"lr": 0.1, "beta1": 0.5}
        )
