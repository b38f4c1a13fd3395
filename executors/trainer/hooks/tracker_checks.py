"""Checks that a run's loggers can work on this machine, before the run exists and without importing a tracker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from finetuner.config.callbacks import Callback, Logger, MLflowLogger, TensorBoardLogger, WandBLogger
from finetuner.exceptions import InvalidInput

PACKAGES: dict[type[Logger], str] = {WandBLogger: "wandb", MLflowLogger: "mlflow", TensorBoardLogger: "tensorboard"}


def check_loggers(callbacks: Sequence[Callback]) -> None:
    """Check that loggers can work on this machine.

    Raises:
        InvalidInput: a package is not installed, or W&B must be online and this machine has no WANDB_API_KEY.
    """
    for callback in callbacks:
        if isinstance(callback, Logger) and find_spec(PACKAGES[type(callback)]) is None:
            raise InvalidInput(
                f"{type(callback).__name__} must find the package {PACKAGES[type(callback)]} on the trainer. Got none. "
                f"Install it there with pip install 'open-finetuner[trackers]', or leave the callback out."
            )
        if isinstance(callback, WandBLogger):
            wandb_mode(callback.wandb_args or {})


def wandb_mode(args: Mapping[str, Any]) -> str:
    """Return the mode of W&B: 'online', 'offline' or 'disabled'. Without args the environment decides.

    Raises:
        InvalidInput: online was requested without WANDB_API_KEY, or against WANDB_MODE.
    """
    usual = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    mode: str = args.get("mode", usual)
    if mode == "online" != usual:
        raise InvalidInput(
            "wandb_args['mode'] must be 'offline' or 'disabled' on this trainer. Got 'online'. Set WANDB_API_KEY, and "
            "no other WANDB_MODE, in its environment."
        )
    return mode
