"""Training of a task as a run does it, and the figures of its curve."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.state import AcceleratorState

from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.hooks.hook import Progress
from finetuner.executors.trainer.loop.task import Task
from finetuner.executors.trainer.loop.training import Training
from tests.gpu.part import Part

RATE = 1e-5


def run_config(part: Part, backbone: str, batch: int, **fields: Any) -> RunConfig:
    """Return the configuration of a run in bf16 on a GPU, in fp32 on a CPU.

    Args:
        part: of the check.
        backbone: row of the configuration.
        batch: pairs or images in a step.
        **fields: further fields.
    """
    precision = "bf16" if part.on_gpu else "fp32"
    return RunConfig(
        backbone, train_data="x", batch_size=batch, device=part.device, precision=precision, **({"epochs": 2} | fields)
    )


def train(part: Part, task: Task, config: RunConfig) -> dict[str, float]:
    """Train; return the figures after the first epoch, which is a warm-up.

    Args:
        part: of the check.
        task: its model is tuned in place.
        config: of at least two epochs.
    """
    AcceleratorState._reset_state()
    if part.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    points: list[dict[str, Any]] = []
    Training(task, Progress(task.model), config, learning_rate=RATE, report=points.append).run()
    later = [point for point in points if point["epoch"] > 1]
    return {
        f"{task.unit}_per_second": round(1 / (sum(1 / point["pairs_per_second"] for point in later) / len(later)), 1),
        "data_wait": round(sum(point["data_wait"] for point in later) / len(later), 4),
        "peak_gb": round(max(point["memory"] for point in later) / 1e9, 2),
    }
