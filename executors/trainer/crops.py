"""Random resized crops of a whole batch, on the device."""

from __future__ import annotations

import torch

CROP_SCALE = (0.9, 1.0)


def normalised(pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return uint8 pictures as the model wants them: (batch, 3, size, size) float32."""
    return (pixels.float() / 255 - mean) / std


def random_crops(
    images: torch.Tensor, generator: torch.Generator, scale: tuple[float, float] = CROP_SCALE
) -> torch.Tensor:
    """Cut a random window out of each picture and enlarge it to the whole size, without flips.

    Args:
        images: (batch, 3, size, size) float32.
        generator: on the CPU, so that every device draws the same windows.
        scale: share of the area that a window has, (low, high) in (0, 1].

    Returns:
        (batch, 3, size, size) float32
    """
    count = len(images)
    low, high = scale
    side = torch.sqrt(low + (high - low) * torch.rand(count, generator=generator))  # (batch,), share of the side
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]  # stays inside
    window = torch.zeros(count, 2, 3)
    window[:, 0, 0] = window[:, 1, 1] = side
    window[:, :, 2] = shift
    grid = torch.nn.functional.affine_grid(window.to(images.device), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
