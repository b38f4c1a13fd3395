"""Training of a ResNet-50 with a metric loss in bf16: images a second, as it is and with other settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from torch.utils.flop_counter import FlopCounterMode

from finetuner.executors.trainer.data.image_data import ImageData
from finetuner.executors.trainer.loop.image_task import ImageTask
from finetuner.models.image_model import ImageModel, ImageModelConfig, ImagePreprocess, build_image_model
from finetuner.models.pixels import normalised
from tests.gpu.part import Part
from tests.gpu.runs import RATE, run_config, train

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LABELS = 32
SIDE = 224


def image_model(part: Part, output_dim: int | None = None) -> ImageModel:
    """Return a network of random weights."""
    torch.manual_seed(0)
    config = ImageModelConfig(part.sizes.architecture, ImagePreprocess(SIDE, MEAN, STD), output_dim=output_dim)
    return build_image_model(config, "random", part.sizes.architecture, part.device)


def figures(part: Part) -> Iterator[tuple[str, Any]]:
    """Yield the figures of training."""
    sizes = part.sizes
    batch = max(sizes.batch // 4, 4)  # of two labels
    count = batch * sizes.steps
    pixels = np.random.default_rng(0).integers(0, 255, (count, 3, SIDE, SIDE), dtype=np.uint8)
    labels = np.arange(count) % min(LABELS, count // 2)
    data = ImageData(pixels, labels.astype(np.int64), [str(name) for name in range(labels.max() + 1)])
    flops, roofline = _flops_per_image(part, batch), part.roofline()
    yield "batch", batch
    yield "gflop_per_image", round(flops / 1e9, 2)
    variants: dict[str, dict[str, Any]] = {"run": {}} | ({"compiled": {"compile": True}} if sizes.compiles else {})
    for name, options in variants.items():
        started = time.perf_counter()
        found = _train(part, data, batch, options)
        yield (
            name,
            found
            | {
                "roofline_share": round(found["images_per_second"] * flops / roofline, 4),
                "seconds": round(time.perf_counter() - started, 1),
            },
        )
        if not options:
            for layout in ("contiguous_format", "channels_last"):
                yield f"bare_loop_{layout}", round(_bare(part, data, batch, getattr(torch, layout)), 1)


def _train(part: Part, data: ImageData, batch: int, options: dict[str, Any]) -> dict[str, Any]:
    options = {"micro_batch_size": batch} | options
    config = run_config(part, "resnet50", batch, loss="TripletMarginLoss", training_options=options)
    return train(part, ImageTask(image_model(part), data, config, batch), config)


def _bare(part: Part, data: ImageData, batch: int, layout: torch.memory_format) -> float:
    """Return images a second of a loop over images that lie on the device, in its second epoch."""
    network = image_model(part).network.to(memory_format=layout).train()  # type: ignore[call-overload]
    mean, std = (torch.tensor(values, device=part.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels, labels = (torch.from_numpy(array).to(part.device) for array in (data.pixels, data.labels))
    optimizer, loss = torch.optim.Adam(network.parameters(), lr=RATE, fused=True), TripletMarginLoss()

    def epoch() -> float:
        started = time.perf_counter()
        for start in range(0, len(pixels), batch):
            images = normalised(pixels[start : start + batch], mean, std).to(memory_format=layout)
            with torch.autocast(part.device, torch.bfloat16, enabled=part.on_gpu):
                outputs = network(images)
            value = loss(outputs.float(), labels[start : start + batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        part.wait()
        return len(pixels) / (time.perf_counter() - started)

    epoch()
    return epoch()


def _flops_per_image(part: Part, batch: int) -> float:
    model = image_model(part)
    with FlopCounterMode(display=False) as counter:
        model.network(torch.zeros(batch, 3, SIDE, SIDE, device=part.device)).sum().backward()
    return counter.get_total_flops() / batch
