"""Splits a model's preprocessing in two: crop to uint8 on the CPU, normalise on the device.

Between the two steps an image takes a quarter of the memory of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image


def cropped(preprocess: Callable[[Image], torch.Tensor], image: Image) -> np.ndarray:
    """Return an image resized and cropped for a model, (3, height, width) uint8, not normalised.

    Args:
        preprocess: a model's. Its last two steps are to-tensor and normalise.
        image: mode RGB.
    """
    import numpy as np

    step: Callable[[Any], Any]
    for step in preprocess.transforms[:-2]:  # type: ignore[attr-defined]
        image = step(image)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def normalised(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return uint8 images scaled to [0, 1] and normalised, (batch, 3, size, size) float32."""
    return pixels.float().div_(255).sub_(mean).div_(std)


def batched(
    pixels: Sequence[torch.Tensor], preprocess: Callable[[Image], torch.Tensor], device: torch.device | str
) -> torch.Tensor:
    """Return images as one normalised batch on the device, (batch, 3, size, size) float32.

    Args:
        pixels: each (3, size, size), float32 from `preprocess` or uint8 from `cropped`.
        preprocess: the model's.
        device: the model's.
    """
    import torch

    batch = stacked(pixels, torch.device(device))
    if batch.dtype != torch.uint8:
        return batch
    step = preprocess.transforms[-1]  # type: ignore[attr-defined]
    mean, std = (torch.as_tensor(values, device=batch.device).view(3, 1, 1) for values in (step.mean, step.std))
    return normalised(batch, mean, std)


def stacked(rows: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Return tensors of one shape as one batch on a device. A GPU copies it while the CPU goes on."""
    import torch

    if device.type != "cuda":
        return torch.stack([*rows]).to(device)
    if any(row.is_cuda for row in rows):  # some were decoded there
        return torch.stack([row.to(device) for row in rows])
    batch = torch.empty((len(rows), *rows[0].shape), dtype=rows[0].dtype, pin_memory=True)
    return torch.stack([*rows], out=batch).to(device, non_blocking=True)
