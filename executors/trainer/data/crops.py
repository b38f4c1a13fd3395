"""Crops and flips a whole batch at random, on the device."""

from __future__ import annotations

import torch


def augment(
    images: torch.Tensor, generator: torch.Generator, *, crop_scale: tuple[float, float], flips: bool
) -> torch.Tensor:
    """Crop each image at random and flip about half of them.

    Args:
        images: (batch, 3, size, size) float32.
        generator: on the CPU, where every device draws the same numbers.
        crop_scale: share of the area that a crop keeps, (low, high) in (0, 1]; (1, 1) crops nothing.
        flips: swap left and right with probability 1/2.

    Returns:
        (batch, 3, size, size) float32; `images` itself if nothing changes.
    """
    if min(crop_scale) < 1:
        images = random_crops(images, generator, crop_scale)
    if flips:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored.to(images.device), images.flip(-1), images)
    return images


def random_crops(images: torch.Tensor, generator: torch.Generator, scale: tuple[float, float]) -> torch.Tensor:
    """Cut a random window out of each image and resize it to the whole size. Arguments as in `augment`."""
    count = len(images)
    low, high = scale
    side = torch.sqrt(low + (high - low) * torch.rand(count, generator=generator))  # (batch,), share of the side
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]  # keeps the window inside
    window = torch.zeros(count, 2, 3)
    window[:, 0, 0] = window[:, 1, 1] = side
    window[:, :, 2] = shift
    grid = torch.nn.functional.affine_grid(window.to(images.device), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
