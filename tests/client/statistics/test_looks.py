"""Near duplicates are found by brightness and colours together."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from finetuner.catalogue import fashion
from finetuner.documents.images import decode
from finetuner.statistics import looks as looks_module
from finetuner.statistics.looks import MAX_BITS, MAX_COLOURS, look_at, near_groups


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [decode(image.jpeg) for image in fashion("train", items=20)]


def saved_again(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return decode(file.getvalue())


@pytest.mark.parametrize(
    "change",
    [saved_again, lambda image: image.resize((300, 300)), lambda image: image.point(lambda value: min(value + 3, 255))],
    ids=["saved", "enlarged", "brighter"],
)
def test_a_copy_is_near_its_original_and_nothing_else(
    images: list[Image.Image], change: Callable[[Image.Image], Image.Image]
) -> None:
    looks = [look_at(image) for image in (*images, *map(change, images[:10]))]
    assert near_groups(looks) == [[number, len(images) + number] for number in range(10)]


def test_groups_are_those_of_a_plain_loop(images: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks_module, "AT_ONCE", 7)
    looks = [look_at(image) for image in (*images, *map(saved_again, images), images[3], images[3])]
    groups: list[list[int]] = []
    for position, look in enumerate(looks):
        for group in groups:
            first = looks[group[0]]
            bits = sum(a != b for a, b in zip(look.bits.tolist(), first.bits.tolist(), strict=True))
            if bits <= MAX_BITS and np.abs(look.colours.astype(int) - first.colours.astype(int)).mean() <= MAX_COLOURS:
                group.append(position)
                break
        else:
            groups.append([position])
    assert near_groups(looks) == [group for group in groups if len(group) > 1]


def test_colours_tell_equal_shapes_apart() -> None:
    shape = np.zeros((64, 64, 3), np.uint8)
    red, blue = shape.copy(), shape.copy()
    red[16:48, 16:48, 0], blue[16:48, 16:48, 2] = 200, 200
    assert near_groups([look_at(Image.fromarray(pixels)) for pixels in (red, blue, red)]) == [[0, 2]]


def test_a_look_keeps_the_size_of_the_file_and_the_contrast() -> None:
    look = look_at(Image.new("RGB", (70, 90), "red"), (700, 900))
    assert (look.width, look.height, look.shorter, look.contrast) == (700, 900, 700, 0)
    assert look.aspect == pytest.approx(7 / 9)
    assert look_at(Image.new("RGB", (1, 3))).height == 3


def test_nothing_has_no_groups() -> None:
    assert near_groups([]) == []


def test_many_images_of_one_colour_take_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks_module, "MOST_COMPARED", 3)
    shades = [look_at(Image.new("RGB", (8, 8), (20 * number, 0, 250 - 20 * number))) for number in range(10)]
    assert near_groups([*shades, shades[1], shades[9]]) == [[1, 10]]  # the last is compared with the first three
