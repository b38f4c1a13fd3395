"""Pulls weights towards those that training started from: L2-SP (Li et al., arXiv:1802.01483), decoupled."""

from __future__ import annotations

import torch


class PullToStart:
    """Weight decay towards the initial weights: w -= rate * alpha * (w - w0), before each step of the optimizer.

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
