"""Images on their way into a model: resized and cropped to uint8 on the CPU, normalised on the device.

The two steps together are the model's own preprocessing; between them an image is a quarter as large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image


def cropped(preprocess: Callable[[Image], torch.Tensor], image: Image) -> np.ndarray:
    """Return an image as a model sees it before normalisation: (3, height, width) uint8.

    Args:
        preprocess: a model's, whose last two steps are to-tensor and normalise.
        image: mode RGB.
    """
    import numpy as np

    step: Callable[[Any], Any]
    for step in preprocess.transforms[:-2]:  # type: ignore[attr-defined]
        image = step(image)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def normalised(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as the model wants them: (batch, 3, size, size) float32."""
    return pixels.float().div_(255).sub_(mean).div_(std)


def batched(
    pixels: Sequence[torch.Tensor], preprocess: Callable[[Image], torch.Tensor], device: torch.device | str
) -> torch.Tensor:
    """Return images as one batch on the device, (batch, 3, size, size) float32.

    Args:
        pixels: each (3, size, size), float32 from `preprocess` or uint8 from `cropped`.
        preprocess: the model's.
        device: of the model.
    """
    import torch

    batch = torch.stack([*pixels]).to(device)
    if batch.dtype != torch.uint8:
        return batch
    step = preprocess.transforms[-1]  # type: ignore[attr-defined]
    mean, std = (torch.as_tensor(values, device=batch.device).view(3, 1, 1) for values in (step.mean, step.std))
    return normalised(batch, mean, std)
