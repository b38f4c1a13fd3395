"""Builds the optimizer and the learning-rate schedule of a run, and pulls its weights towards their start."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from finetuner.config.optimizer_config import LAYER_DECAY
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput

from ..hooks.freezing import part_of
from .layer_decay import depths

COSINE_END = 0.1
WARM_UP_SHARE = 0.05
LORA_PLUS_RATIO = 16.0  # of arXiv:2402.12354
SECOND_MATRIX = ".lora_B."  # in peft's parameter names; that of embeddings does not start at zero
LENGTHS = "lora_magnitude_vector"  # of DoRA, in peft's parameter names; they do not shrink
# They change how torch computes, not the result.
MECHANICS = frozenset({"lr", "foreach", "fused", "capturable", "differentiable", "maximize"})
CLIP_BETAS, CLIP_EPS = (0.9, 0.98), 1e-6


def make_optimizer(network: torch.nn.Module, config: RunConfig, learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer, fused if torch has such a version.

    Weight decay does not apply to 1-D parameters (biases, norms) and the logit scale. `learning_rates` replaces the
    rate of whole parts, see `part_of`. With `layer_wise_lr_decay` d, the rate of parameters at depth n (see
    `layer_decay`) is multiplied by d**n. That of the second matrices of adapters is multiplied by `lora_plus_ratio`.
    The first group has the smallest depth, of the parts without a rate of their own if there are any.

    Args:
        network: with the trainable parameters.
        config: `optimizer` and `optimizer_options`. Defaults are torch's, except those of CLIP for Adam and AdamW:
            betas (0.9, 0.98), eps 1e-6, and weight decay 0.1 for AdamW.
        learning_rate: peak, of the parts that `learning_rates` does not name.

    Raises:
        InvalidInput: no parameter is trainable.
    """
    options = dict(config.optimizer_options)
    kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, config.optimizer)
    own = inspect.signature(kind).parameters
    if config.optimizer in ("Adam", "AdamW"):
        options = {"betas": CLIP_BETAS, "eps": CLIP_EPS, **options}
    if config.optimizer == "AdamW":
        options = {"weight_decay": 0.1, **options}
    if "betas" in own:
        first, second = options.get("betas", own["betas"].default)
        options["betas"] = (options.pop("beta1", first), options.pop("beta2", second))
    if "fused" in own:
        options["fused"] = True
    layer_decay, weight_decay = options.pop(LAYER_DECAY, 1.0), options.pop("weight_decay", 0.0)
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not named:
        raise InvalidInput("network must have something to train. Got all of it frozen. Freeze less.")
    depth_of = {} if layer_decay == 1 else depths(network)
    ratio = config.options.lora_plus_ratio or LORA_PLUS_RATIO
    rates = config.options.learning_rates or {}
    groups: dict[tuple[str, int, bool, bool], dict[str, Any]] = {}
    for name, parameter in named:
        depth, fast = depth_of.get(name, 0), SECOND_MATRIX in name
        spared = parameter.ndim < 2 or LENGTHS in name
        part = part_of(name, tuple(rates))
        group = groups.setdefault(
            (part, depth, fast, spared),
            {
                "params": [],
                "weight_decay": 0.0 if spared else weight_decay,
                "lr": rates.get(part, learning_rate) * layer_decay**depth * (ratio if fast else 1.0),
            },
        )
        group["params"].append(parameter)
    return kind([groups[key] for key in sorted(groups)], lr=learning_rate, **options)


class PullToStart:
    """L2-SP (Li et al., arXiv:1802.01483), decoupled: w -= rate * alpha * (w - w0), before each step of the optimizer.

    This is the gradient step of the paper's penalty, alpha / 2 * sum((w - w0)^2). As in AdamW, it does not pass
    through the optimizer's moments, so the pull does not depend on the size of the gradients.

    Args:
        optimizer: of the weights, at their initial values.
        alpha: at least 0.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, alpha: float) -> None:
        self._alpha = alpha
        self._optimizer = optimizer
        self._start = [[value.detach().clone() for value in group["params"]] for group in optimizer.param_groups]

    @torch.no_grad()
    def apply(self) -> None:
        """Pull the weights at the current learning rates. A pull never goes past the start."""
        for group, start in zip(self._optimizer.param_groups, self._start, strict=True):
            share = min(float(group["lr"]) * self._alpha, 1.0)
            for value, first in zip(group["params"], start, strict=True):
                value.lerp_(first, share)


def learning_rate_factor(
    scheduler: str | None, options: Mapping[str, Any], steps: int, epochs: int = 1
) -> Callable[[int], float]:
    """Return the schedule: step, from 0 -> share of the peak learning rate, in [0, 1].

    The schedules are those of transformers, with three differences: the first step of the warm-up has a rate above 0,
    'cosine' falls to COSINE_END, and 'polynomial' to 0. All but 'constant' warm up, linearly.

    Args:
        scheduler: one of `SCHEDULERS`; None is 'constant'.
        options: num_warmup_steps (default 5% of the steps); num_training_steps (default `steps`); scheduler_step
            ('batch' by default; 'epoch' counts both in epochs, and the rate is constant during an epoch); num_cycles of
            'cosine_with_restarts' (default 1); power of 'polynomial' (default 1).
        steps: of the whole run, in batches.
        epochs: of the whole run, with equal numbers of batches.
    """
    if scheduler in (None, "constant"):
        return lambda step: 1.0
    full = resolved_schedule(scheduler, options, steps, epochs)
    length = max(steps // epochs, 1) if full["scheduler_step"] == "epoch" else 1
    total: int = full["num_training_steps"]
    warm_up: int = full["num_warmup_steps"]
    shape = _shape(scheduler, full.get("num_cycles", 1), full.get("power", 1.0))

    def factor(step: int) -> float:
        step //= length
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return shape(min((step - warm_up) / max(total - warm_up, 1), 1.0))

    return factor


def resolved_schedule(scheduler: str | None, options: Mapping[str, Any], steps: int, epochs: int = 1) -> dict[str, Any]:
    """Return the options of a schedule with the defaults filled in; see `learning_rate_factor`."""
    if scheduler in (None, "constant"):
        return {}
    unit = options.get("scheduler_step", "batch")
    total = options.get("num_training_steps", epochs if unit == "epoch" else steps)
    defaults: dict[str, dict[str, Any]] = {"cosine_with_restarts": {"num_cycles": 1}, "polynomial": {"power": 1.0}}
    return {
        "scheduler_step": unit,
        "num_training_steps": total,
        "num_warmup_steps": round(WARM_UP_SHARE * total),
        **defaults.get(str(scheduler), {}),
        **options,
    }


def resolved_options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the options of an optimizer in force, except the learning rate and MECHANICS, as JSON values.

    Weight decay is that of the parameters that decay.
    """
    decay = max(float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups)
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in optimizer.defaults.items()}
    kept = {name: value for name, value in found.items() if name not in MECHANICS and value is not None}
    return kept | ({"weight_decay": decay} if "weight_decay" in optimizer.defaults else {})


def _shape(scheduler: str | None, cycles: int, power: float) -> Callable[[float], float]:
    """Return the schedule after the warm-up: progress in [0, 1] -> share of the peak."""
    if scheduler == "cosine":
        return lambda progress: COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * progress))
    if scheduler == "cosine_with_restarts":
        return lambda progress: 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1.0)))
    if scheduler == "linear":
        return lambda progress: 1 - progress
    if scheduler == "polynomial":
        return lambda progress: float((1 - progress) ** power)
    return lambda progress: 1.0
