"""Which runs may go on from which checkpoint: those that would have come to the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput

FREE = ("run_name", "experiment_name", "description", "device", "num_workers", "to_onnx", "resume_from")
"""Fields that do not decide the weights, and names, which the data's versions replace."""
NAMES = ("train_data", "eval_data", "guard_data")


def require_same(
    config: RunConfig, earlier: RunConfig, data: Mapping[str, str], earlier_data: Mapping[str, str]
) -> None:
    """Refuse to go on where the two runs differ in what decides the weights.

    Without a schedule the number of epochs may grow.

    Args:
        config: of the new run.
        earlier: of the run with the checkpoint.
        data: the new run's data by use, as content hashes.
        earlier_data: the same of the earlier run.

    Raises:
        InvalidInput: names the first field that differs.
    """
    for name in (entry.name for entry in fields(RunConfig)):
        if name in (*FREE, *NAMES):
            continue
        now, then = getattr(config, name), getattr(earlier, name)
        longer = name == "epochs" and now > then and config.scheduler in (None, "constant")
        if now != then and not longer:
            raise InvalidInput(
                f"{name} must be that of the run {earlier.run_name!r} to go on from: {then!r}. Got {now!r}. "
                f"Change it back, or start a new run without resume_from."
            )
    for use in sorted({*data, *earlier_data}):
        if data.get(use) != earlier_data.get(use):
            raise InvalidInput(
                f"the data for {use!r} must be that of the run {earlier.run_name!r} to go on from. Got other content. "
                f"Push the same data, or start a new run without resume_from."
            )
