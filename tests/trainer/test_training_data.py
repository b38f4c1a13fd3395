"""Decoded pictures with their captions, and the passes over them."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from docarray import Document

from executors.trainer.crops import normalised
from executors.trainer.training_data import TrainingData, prepare
from finetuner.clip import Clip
from finetuner.exceptions import InvalidInput
from finetuner.images import decode
from finetuner.pairs import Pair, read_pairs


def numbered(count: int, captions: int = 1) -> TrainingData:
    """Pictures whose pixels and captions both say their row."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    return TrainingData(pixels, [[f"{row} {caption}" for caption in range(captions)] for row in range(count)])


def one_pass(data: TrainingData, batch_size: int, seed: int | None) -> list[tuple[list[int], list[str]]]:
    generator = None if seed is None else np.random.default_rng(seed)
    batches = data.batches(np.arange(len(data)), batch_size, generator)
    return [(pixels[:, 0, 0, 0].tolist(), captions) for pixels, captions in batches]


def test_captions_of_one_picture_are_one_row(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    first, second = read_pairs(pairs[:2])
    data = prepare([first, second, Pair("the same in other words", first.image)], clip_mini, tmp_path / "pixels.npy", 2)
    assert len(data) == 2
    assert data.captions == [[first.text, "the same in other words"], [second.text]]
    assert data.pixels.shape == (2, 3, 80, 80)
    assert data.pixels.dtype == np.uint8


def test_pixels_are_what_the_model_sees_at_inference(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    found = read_pairs(pairs[:4])
    data = prepare(found, clip_mini, tmp_path / "pixels.npy", 0)
    config = clip_mini.preprocess_config
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    expected = torch.stack([clip_mini.preprocess(decode(pair.image)) for pair in found])
    torch.testing.assert_close(normalised(torch.from_numpy(data.pixels), mean, std), expected)


def test_the_pixels_leave_no_file_behind(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    data = prepare(read_pairs(pairs[:3]), clip_mini, tmp_path / "pixels.npy", 1)
    assert list(tmp_path.iterdir()) == []
    assert data.pixels.any()


def test_a_broken_picture_is_left_out_with_a_warning(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = read_pairs(pairs[:4])
    broken = Pair("a broken one", good[0].image[:500])
    whole = prepare(good, clip_mini, tmp_path / "whole.npy", 2)
    with caplog.at_level(logging.WARNING, "finetuner"):
        data = prepare([good[0], broken, *good[1:]], clip_mini, tmp_path / "pixels.npy", 2)
    assert np.array_equal(data.pixels, whole.pixels)
    assert data.captions == whole.captions
    assert "Picture of 'a broken one' left out: image must be a picture file" in caplog.text
    assert "1 of 5 pictures cannot be decoded and are left out" in caplog.text


@pytest.mark.parametrize("good", [0, 1])
def test_fewer_than_two_good_pictures_are_refused(
    good: int, clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    found = [*read_pairs(pairs[:good]), Pair("one", b"no picture"), Pair("two", b"none either")]
    with pytest.raises(InvalidInput, match=rf"at least two pictures that can be decoded. Got {good} of {good + 2}"):
        prepare(found, clip_mini, tmp_path / "pixels.npy", 2)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (2, 8, [2]), (1, 4, [])]
)
def test_a_pass_takes_every_picture_once_but_a_rest_of_one(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = one_pass(numbered(count), batch_size, seed=1)
    assert [len(rows) for rows, _ in batches] == sizes
    seen = [row for rows, _ in batches for row in rows]
    assert len(set(seen)) == len(seen) == sum(sizes)
    assert all(caption == f"{row} 0" for rows, captions in batches for row, caption in zip(rows, captions, strict=True))


def test_captions_are_drawn_anew_in_each_epoch() -> None:
    data, generator = numbered(6, captions=3), np.random.default_rng(0)
    drawn = Counter(
        caption for _ in range(60) for _, captions in data.batches(np.arange(6), 6, generator) for caption in captions
    )
    assert len(drawn) == 18
    assert all(5 <= count <= 40 for count in drawn.values())


def test_order_depends_on_the_generator_alone() -> None:
    assert one_pass(numbered(20), 20, seed=1) == one_pass(numbered(20), 20, seed=1)
    assert one_pass(numbered(20), 20, seed=1) != one_pass(numbered(20), 20, seed=2)
    assert one_pass(numbered(20, captions=2), 20, seed=None) == [(list(range(20)), [f"{row} 0" for row in range(20)])]


def test_only_the_rows_asked_for_are_taken() -> None:
    batches = list(numbered(10).batches(np.array([2, 5, 7]), 8, np.random.default_rng(0)))
    assert sorted(batches[0][0][:, 0, 0, 0].tolist()) == [2, 5, 7]
