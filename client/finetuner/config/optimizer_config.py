"""Optimizers and learning-rate schedules of a run, and their options; checked without torch.

Names and options are those of torch. Options that only change the implementation (foreach, fused, ...) are left out, as
is ASGD's t0: it starts an average that no code reads. LBFGS, SparseAdam and Muon fit none of the networks.
`tests/trainer/loop/test_optimization.py` compares the table with torch.optim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract.checks import choice, flag, number, options, whole
from ..exceptions import InvalidInput

Range = tuple[float, float]
Rule = Range | tuple[Range, Range] | None
"""Allowed values of an option: (lowest, highest); two of these for a pair of numbers; None for True or False."""

WEIGHT_DECAY, SHARE = (0.0, 10.0), (0.0, 0.99999)
EPS = (1e-12, 1.0)
BETA1, BETA2 = (0.0, 0.9999), SHARE
BETAS: Mapping[str, Rule] = {"beta1": BETA1, "beta2": BETA2, "betas": (BETA1, BETA2)}
ADAM: Mapping[str, Rule] = {"weight_decay": WEIGHT_DECAY, "eps": EPS, **BETAS}

OWN_OPTIONS: Mapping[str, Mapping[str, Rule]] = {
    "ASGD": {"weight_decay": WEIGHT_DECAY, "lambd": (0.0, 1.0), "alpha": (0.0, 10.0)},
    "Adadelta": {"weight_decay": WEIGHT_DECAY, "eps": EPS, "rho": SHARE},
    "Adafactor": {
        "weight_decay": WEIGHT_DECAY, "eps": ((1e-38, 1.0), EPS), "beta2_decay": (-10.0, 0.0), "d": (1.0, 1e6),
    },
    "Adagrad": {
        "weight_decay": WEIGHT_DECAY, "eps": EPS, "lr_decay": (0.0, 1.0), "initial_accumulator_value": (0.0, 1e6),
    },
    "Adam": {**ADAM, "amsgrad": None, "decoupled_weight_decay": None},
    "AdamW": {**ADAM, "amsgrad": None},
    "Adamax": ADAM,
    "NAdam": {**ADAM, "momentum_decay": (0.0, 1.0), "decoupled_weight_decay": None},
    "RAdam": {**ADAM, "decoupled_weight_decay": None},
    "RMSprop": {
        "weight_decay": WEIGHT_DECAY, "eps": EPS, "alpha": SHARE, "momentum": BETA1, "centered": None,
    },
    "Rprop": {"etas": ((0.0001, 0.9999), (1.0001, 100.0)), "step_sizes": ((1e-12, 1.0), (1e-12, 1e4))},
    "SGD": {"weight_decay": WEIGHT_DECAY, "momentum": BETA1, "dampening": (0.0, 1.0), "nesterov": None},
}  # fmt: skip

LAYER_DECAY = "layer_wise_lr_decay"
"""Factor in [0.001, 1] on the learning rate of each layer, relative to the layer above. The head has the full rate."""

OPTIMIZER_OPTIONS: Mapping[str, Mapping[str, Rule]] = {
    name: {**rules, LAYER_DECAY: (0.001, 1.0)} for name, rules in OWN_OPTIONS.items()
}
OPTIMIZERS = tuple(OPTIMIZER_OPTIONS)

# Schedule -> option -> (lowest, highest): whole numbers, except for 'power'.
WARM_UP: Mapping[str, Range] = {"num_warmup_steps": (0, 10**9)}
DECAY: Mapping[str, Range] = {**WARM_UP, "num_training_steps": (1, 10**9)}
SCHEDULER_OPTIONS: Mapping[str, Mapping[str, Range]] = {
    "constant": {},
    "constant_with_warmup": DECAY,
    "cosine": DECAY,
    "cosine_with_restarts": {**DECAY, "num_cycles": (1, 10_000)},
    "linear": DECAY,
    "polynomial": {**DECAY, "power": (0.01, 100)},
}
SCHEDULERS = tuple(SCHEDULER_OPTIONS)
SCHEDULER_STEPS = ("batch", "epoch")


def checked_optimizer_options(optimizer: str, given: object, name: str = "optimizer_options") -> dict[str, Any]:
    """Return the checked options of an optimizer: numbers as floats, pairs as lists of two floats.

    Args:
        optimizer: one of `OPTIMIZERS`.
        given: options by torch's names; beta1 and beta2 may replace betas.
        name: name of the argument, for error messages.

    Raises:
        InvalidInput: a name is unknown, a value is out of range, or options contradict each other.
    """
    rules = OPTIMIZER_OPTIONS[optimizer]
    checked = {
        key: _checked(f"{name}[{key!r}]", value, rules[key]) for key, value in options(name, given, rules).items()
    }
    if "betas" in checked and ("beta1" in checked or "beta2" in checked):
        raise InvalidInput(f"{name} must have betas or beta1 and beta2. Got both. Leave one of them out.")
    if checked.get("nesterov") and (not checked.get("momentum") or checked.get("dampening")):
        raise InvalidInput(f"{name}: nesterov needs momentum above 0 and no dampening. Got {checked}. Set momentum.")
    if "step_sizes" in checked and checked["step_sizes"][0] > checked["step_sizes"][1]:
        raise InvalidInput(f"{name}['step_sizes'] must be (low, high). Got {checked['step_sizes']}. Swap them.")
    return checked


def checked_scheduler_options(scheduler: str | None, given: object) -> dict[str, Any]:
    """Return the checked options of a schedule, without num_training_steps='auto'.

    Args:
        scheduler: one of `SCHEDULERS`; None is constant.
        given: num_warmup_steps, num_training_steps, scheduler_step; num_cycles or power if the schedule has it.

    Raises:
        InvalidInput: a name is unknown, a value is out of range, or the schedule takes no options.
    """
    rules = SCHEDULER_OPTIONS[scheduler or "constant"]
    if given and not rules:
        raise InvalidInput(
            f"scheduler_options need a scheduler of {', '.join(SCHEDULERS[1:])}. Got {scheduler!r}. "
            f"Set it, or leave them out."
        )
    checked: dict[str, Any] = {}
    for key, value in options("scheduler_options", given, {**rules, "scheduler_step": None}).items():
        name = f"scheduler_options[{key!r}]"
        if key == "scheduler_step":
            choice(name, value, SCHEDULER_STEPS)
            checked[key] = value
        elif key == "power":
            checked[key] = number(name, value, *rules[key])
        elif key != "num_training_steps" or value != "auto":
            checked[key] = whole(name, value, int(rules[key][0]), int(rules[key][1]))
    return checked


def _checked(name: str, value: Any, rule: Rule) -> Any:
    if rule is None:
        return flag(name, value)
    if not isinstance(rule[0], tuple):
        return number(name, value, *rule)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InvalidInput(f"{name} must be two numbers. Got {value!r}.")
    return [number(name, entry, *bounds) for entry, bounds in zip(value, rule, strict=True)]
