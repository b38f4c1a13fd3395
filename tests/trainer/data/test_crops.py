"""Random crops: inside the image, of the image's shape, the same everywhere for one generator."""

from __future__ import annotations

import pytest
import torch

from finetuner.executors.trainer.data.crops import augment, random_crops
from finetuner.models.pixels import normalised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(count: int, size: int) -> torch.Tensor:
    """Images whose first channel is x and second y, both in (-1, 1), at the pixels' centres."""
    axis = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]).expand(count, 3, size, size).contiguous()


def test_a_crop_of_the_whole_is_the_image() -> None:
    images = torch.rand(5, 3, 32, 32, generator=generator())
    cropped = random_crops(images, generator(), scale=(1.0, 1.0))
    assert cropped.shape == images.shape
    assert cropped.dtype == torch.float32
    assert (cropped - images).abs().max() < 1e-5


@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.05, 0.3)])
def test_windows_stay_inside_and_have_the_requested_area(scale: tuple[float, float]) -> None:
    size = 64
    cropped = random_crops(coordinates(200, size), generator(), scale=scale)
    assert cropped.shape == (200, 3, size, size)
    for channel in (0, 1):
        seen = cropped[:, channel].flatten(1)
        assert seen.max() <= 1
        assert seen.min() >= -1
    # The visible part of a linear ramp gives the window's side, except one pixel at each border
    side = (cropped[:, 0].flatten(1).amax(1) - cropped[:, 0].flatten(1).amin(1)) / 2 * size / (size - 1)
    low, high = (share**0.5 for share in scale)
    assert side.min() > low - 0.02
    assert side.max() < high + 0.02
    assert side.max() - side.min() > (high - low) * 0.8


def test_each_image_has_its_own_window_and_a_seed_repeats_them() -> None:
    images = coordinates(8, 32)
    first = random_crops(images, generator(3), (0.9, 1.0))
    assert torch.equal(first, random_crops(images, generator(3), (0.9, 1.0)))
    assert not torch.equal(first, random_crops(images, generator(4), (0.9, 1.0)))
    assert len({first[row].sum().item() for row in range(8)}) == 8


def test_half_of_the_images_are_flipped() -> None:
    images = torch.rand(200, 3, 4, 4, generator=generator())
    flipped = augment(images, generator(), crop_scale=(1.0, 1.0), flips=True)
    mirrored = [not torch.equal(old, new) for old, new in zip(images, flipped, strict=True)]
    assert 70 < sum(mirrored) < 130
    for old, new, mirror in zip(images, flipped, mirrored, strict=True):
        assert torch.equal(new, old.flip(-1) if mirror else old)


def test_without_augmentation_nothing_is_drawn_or_changed() -> None:
    images, drawing = torch.rand(3, 3, 4, 4), generator()
    assert augment(images, drawing, crop_scale=(1.0, 1.0), flips=False) is images
    assert torch.equal(drawing.get_state(), generator().get_state())


@pytest.mark.parametrize("crop_scale", [(0.5, 0.9), (0.9, 1.0)])
def test_augmentation_crops_and_flips(crop_scale: tuple[float, float]) -> None:
    images = coordinates(20, 16)
    cropped = augment(images, generator(), crop_scale=crop_scale, flips=False)
    assert torch.equal(cropped, random_crops(images, generator(), crop_scale))
    both = augment(images, generator(), crop_scale=crop_scale, flips=True)
    assert all(torch.equal(one, two) or torch.equal(one, two.flip(-1)) for one, two in zip(both, cropped, strict=True))
    assert not torch.equal(both, cropped)


def test_pixels_are_normalised_as_open_clip_does() -> None:
    from torchvision.transforms import Normalize

    pixels = torch.randint(0, 256, (4, 3, 8, 8), generator=generator(), dtype=torch.uint8)
    mean, std = torch.tensor([0.48, 0.45, 0.40]), torch.tensor([0.26, 0.25, 0.27])
    found = normalised(pixels, mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1))
    torch.testing.assert_close(found, Normalize(mean.tolist(), std.tolist())(pixels / 255))
