"""Optimizer and learning-rate schedule of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from finetuner.run_config import RunConfig

COSINE_END = 0.1
WARM_UP_SHARE = 0.05


def make_optimizer(network: torch.nn.Module, config: RunConfig, learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer; weight decay spares 1-D parameters (biases, norms) and the logit scale.

    Args:
        network: whose trainable parameters are taken.
        config: `optimizer` and `optimizer_options`; defaults are CLIP's: betas (0.9, 0.98), eps 1e-6, and for
            AdamW weight decay 0.1.
        learning_rate: peak.
    """
    options = dict(config.optimizer_options)
    decay = options.pop("weight_decay", 0.1 if config.optimizer == "AdamW" else 0.0)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, config.optimizer)
    return kind(
        groups,
        lr=learning_rate,
        betas=(options.get("beta1", 0.9), options.get("beta2", 0.98)),
        eps=options.get("eps", 1e-6),
        fused=True,
    )


def learning_rate_factor(scheduler: str | None, options: Mapping[str, int], steps: int) -> Callable[[int], float]:
    """Return the schedule: step, from 0 -> share of the peak learning rate, in [0, 1].

    Args:
        scheduler: None and 'constant' stay at 1; 'cosine' warms up linearly, then falls to COSINE_END.
        options: num_warmup_steps (5% of the steps by default) and num_training_steps (`steps` by default).
        steps: of the whole run.
    """
    if scheduler in (None, "constant"):
        return lambda step: 1.0
    total = options.get("num_training_steps", steps)
    warm_up = options.get("num_warmup_steps", round(WARM_UP_SHARE * total))

    def cosine(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        progress = min((step - warm_up) / max(total - warm_up, 1), 1.0)
        return COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * progress))

    return cosine
