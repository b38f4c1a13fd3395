"""Decoded images with their captions, and the batches of an epoch."""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from docarray import Document

from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair, read_pairs
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.decoded_images import QUEUED_PER_THREAD, SourceImage, decode_images
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import Plan, TrainingData, prepare
from finetuner.models.clip import Clip
from finetuner.models.pixels import normalised

VERSION = "a" * 64


def numbered(count: int, captions: int = 1) -> TrainingData:
    """Images whose pixels and captions contain their row."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    return TrainingData(pixels, [[f"{row} {caption}" for caption in range(captions)] for row in range(count)])


def one_pass(data: TrainingData, batch_size: int, seed: int | None) -> list[tuple[list[int], list[str]]]:
    generator = None if seed is None else np.random.default_rng(seed)
    batches = map(data.fetch, data.plan(np.arange(len(data)), batch_size, generator))
    return [(pixels[:, 0, 0, 0].tolist(), captions) for pixels, captions in batches]


def test_captions_of_one_image_are_one_row(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    first, second = read_pairs(pairs[:2])
    data = prepare(
        [first, second, Pair("the same in other words", first.image)],
        clip_mini,
        ImageCache(tmp_path, 10**9),
        VERSION,
        2,
    )
    assert len(data) == 2
    assert data.captions == [[first.text, "the same in other words"], [second.text]]
    assert data.pixels.shape == (2, 3, 80, 80)
    assert data.pixels.dtype == np.uint8


def test_pixels_are_what_the_model_sees_at_inference(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    found = read_pairs(pairs[:4])
    data = prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 0)
    config = clip_mini.preprocess_config
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    expected = torch.stack([clip_mini.preprocess(decode(pair.image)) for pair in found])
    torch.testing.assert_close(
        normalised(torch.from_numpy(data.fetch(data.plan(np.arange(4), 4, None)[0])[0]), mean, std), expected
    )


def test_a_later_run_reads_and_decodes_nothing(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = read_pairs(pairs[:3])
    found = [Pair("broken", b"no image"), *good, Pair("again", good[0].image)]
    first = prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)

    def none() -> Iterator[Pair]:
        raise AssertionError("read again")
        yield

    with caplog.at_level(logging.INFO, "finetuner"):
        second = prepare(none(), clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.captions == second.captions == [[good[0].text, "again"], [good[1].text], [good[2].text]]
    assert "1 of 4 images cannot be decoded and are left out" in caplog.text
    assert "Found 3 images decoded by an earlier run" in caplog.text


def test_labels_belong_to_captions_and_are_kept(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    good = [replace(pair, label="") for pair in read_pairs(pairs[:3])]
    found = [replace(good[0], label="a"), good[1], Pair("broken", b"no image", "b"), replace(good[2], label="a"),
             replace(good[0], text="again", label="c")]  # fmt: skip
    cache = ImageCache(tmp_path, 10**9)
    for data in (prepare(found, clip_mini, cache, VERSION, 2), prepare([], clip_mini, cache, VERSION, 2)):
        assert data.labels == [["a", "c"], [""], ["a"]]
        assert data.label_ids(Plan(np.array([0, 1, 2, 0]), np.array([0, 0, 0, 1]))).tolist() == [0, -1, 0, 1]
    data = prepare(good, clip_mini, cache, "b" * 64, 2)
    assert data.labels == []
    assert data.label_ids(Plan(np.arange(3), np.zeros(3, np.int64))).tolist() == [-1, -1, -1]


def test_negatives_belong_to_captions_and_are_kept(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    good = read_pairs(pairs[:2])
    found = [replace(good[0], negatives=("x", "y")), good[1], replace(good[0], text="again", negatives=("y",))]
    cache = ImageCache(tmp_path, 10**9)
    for data in (prepare(found, clip_mini, cache, VERSION, 2), prepare([], clip_mini, cache, VERSION, 2)):
        assert data.negatives == [[["x", "y"], ["y"]], [[]]]
        numbers = data.negative_ids(Plan(np.array([0, 1, 0]), np.array([0, 0, 1])))
        assert [[data.texts[number] for number in each] for each in numbers] == [["x", "y"], [], ["y"]]
    assert prepare(good, clip_mini, cache, "b" * 64, 2).negatives == []


def test_a_negative_that_is_another_caption_of_the_image_is_refused(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    first, second = read_pairs(pairs[:2])
    found = [first, second, replace(first, text="again", negatives=("x", f" {first.text} "))]
    message = "train_data: in the pairs of the image of .*, negative 1 must differ from the captions of its image"
    with pytest.raises(InvalidInput, match=message):
        prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)


def test_a_file_of_an_earlier_version_is_decoded_again(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, cache = read_pairs(pairs[:3]), ImageCache(tmp_path, 10**9)
    new = prepare(found, clip_mini, cache, VERSION, 2)
    (name,) = (path.stem for path in tmp_path.glob("*.json"))
    with cache.new(name, (3, 80, 80)) as file:  # without labels
        for pixels in new.pixels:
            file.add(np.asarray(pixels))
        file.finish({"texts": new.captions, "broken": 0, "reason": ""})
    with caplog.at_level(logging.INFO, "finetuner"):
        again = prepare(found, clip_mini, cache, VERSION, 2)
    assert "decoded by an earlier version, which kept less about them, are decoded again" in caplog.text
    assert (again.labels, again.captions) == (new.labels, new.captions)
    assert new.labels


def test_scores_are_those_of_the_captions_in_a_later_run_too(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    first, second = (pair.image for pair in read_pairs(pairs[:2]))
    found = [
        Pair("a", first, score=1.5),
        Pair("broken", b"no image", score=9.0),
        Pair("b", second, score=0.0),
        Pair("c", first, score=0.1),
    ]
    made = prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)
    later = prepare([], clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)
    for data in (made, later):
        assert data.captions == [["a", "c"], ["b"]]
        assert data.scores == [[1.5, 0.1], [0.0]]
        assert data.scores_of(Plan(np.array([1, 0]), np.array([0, 1]))).tolist() == [0.0, 0.1]


def test_pairs_without_scores_have_none(clip_mini: Clip, pairs: list[Document], tmp_path: Path) -> None:
    for found in (read_pairs(pairs[:3]), []):
        assert prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2).scores is None


def test_scores_of_some_pairs_only_are_refused_and_nothing_is_kept(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    found, cache = read_pairs(pairs[:3]), ImageCache(tmp_path, 10**9)
    with pytest.raises(InvalidInput, match="guard_data must have a score for each pair, or for none. Got 1 pairs with"):
        prepare([replace(found[0], score=1.0), *found[1:]], clip_mini, cache, VERSION, 2, "guard_data")
    assert list(tmp_path.iterdir()) == []


def test_other_data_or_another_preprocessing_is_decoded_anew(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    found, cache = read_pairs(pairs[:4]), ImageCache(tmp_path, 10**9)
    assert len(prepare(found[:3], clip_mini, cache, VERSION, 2)) == 3
    assert len(prepare(found, clip_mini, cache, "b" * 64, 2)) == 4
    clip_mini.preprocess_config = replace(clip_mini.preprocess_config, interpolation="bilinear")
    assert len(prepare(found, clip_mini, cache, VERSION, 2)) == 4
    clip_mini.preprocess_config = replace(clip_mini.preprocess_config, mean=(0.5, 0.5, 0.5))
    assert len(prepare([], clip_mini, cache, VERSION, 2)) == 4  # normalised later, on the device


@pytest.mark.parametrize("threads", [1, 3])
def test_only_a_few_image_files_are_in_memory(
    threads: int, clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    blobs, alive, most = [pair.image for pair in read_pairs(pairs)], weakref.WeakSet[SourceImage](), 0

    def read() -> Iterator[SourceImage]:
        nonlocal most
        for number in range(60):
            image = SourceImage(str(number), str(number), blobs[number % len(blobs)])
            alive.add(image)
            most = max(most, len(alive))
            yield image

    decoded = decode_images(read(), clip_mini, ImageCache(tmp_path, 10**9), VERSION, threads)
    assert decoded.texts == [[str(number)] for number in range(60)]
    assert most <= QUEUED_PER_THREAD * threads + 2


def test_a_broken_image_is_left_out_with_a_warning(
    clip_mini: Clip, pairs: list[Document], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = read_pairs(pairs[:4])
    broken = Pair("a broken one", good[0].image[:500])
    whole = prepare(good, clip_mini, ImageCache(tmp_path, 0), VERSION, 2)
    with caplog.at_level(logging.WARNING, "finetuner"):
        data = prepare([good[0], broken, *good[1:]], clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)
    assert np.array_equal(data.pixels, whole.pixels)
    assert data.captions == whole.captions
    assert "Image of 'a broken one' left out: image must be an image file" in caplog.text
    assert "1 of 5 images cannot be decoded and are left out" in caplog.text


@pytest.mark.parametrize("good", [0, 1])
def test_fewer_than_two_good_images_are_refused(
    good: int, clip_mini: Clip, pairs: list[Document], tmp_path: Path
) -> None:
    found = [*read_pairs(pairs[:good]), Pair("one", b"no image"), Pair("two", b"none either")]
    message = rf"two images that can be decoded. Got {good} of {good + 2} images \(image must be an image file"
    with pytest.raises(InvalidInput, match=message):
        prepare(found, clip_mini, ImageCache(tmp_path, 10**9), VERSION, 2)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (2, 8, [2]), (1, 4, [])]
)
def test_an_epoch_has_every_image_once_but_a_last_batch_of_one(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = one_pass(numbered(count), batch_size, seed=1)
    assert [len(rows) for rows, _ in batches] == sizes
    seen = [row for rows, _ in batches for row in rows]
    assert len(set(seen)) == len(seen) == sum(sizes)
    assert all(caption == f"{row} 0" for rows, captions in batches for row, caption in zip(rows, captions, strict=True))


def test_captions_are_drawn_anew_in_each_epoch() -> None:
    data, generator = numbered(6, captions=3), np.random.default_rng(0)
    plans = [plan for _ in range(60) for plan in data.plan(np.arange(6), 6, generator)]
    drawn = Counter(caption for plan in plans for caption in data.fetch(plan)[1])
    assert len(drawn) == 18
    assert all(5 <= count <= 40 for count in drawn.values())


def test_order_depends_on_the_generator_alone() -> None:
    assert one_pass(numbered(20), 20, seed=1) == one_pass(numbered(20), 20, seed=1)
    assert one_pass(numbered(20), 20, seed=1) != one_pass(numbered(20), 20, seed=2)
    assert one_pass(numbered(20, captions=2), 20, seed=None) == [(list(range(20)), [f"{row} 0" for row in range(20)])]


def test_only_the_given_rows_are_used() -> None:
    (plan,) = numbered(10).plan(np.array([2, 5, 7]), 8, np.random.default_rng(0))
    assert sorted(plan.image_ids.tolist()) == [2, 5, 7]
    assert sorted(numbered(10).fetch(plan)[0][:, 0, 0, 0].tolist()) == [2, 5, 7]


def test_equal_captions_have_the_same_id_in_every_batch() -> None:
    captions = [["a shirt"], ["a skirt", "a shirt "], ["A shirt"], ["\ta shirt"], ["a skirt"]]
    data = TrainingData(np.zeros((5, 3, 2, 2), np.uint8), captions)
    for seed in range(5):
        for plan in data.plan(np.arange(5), 3, np.random.default_rng(seed)):
            drawn, ids = data.fetch(plan)[1], data.caption_ids(plan)
            assert ids.dtype == np.int64
            for one, first in enumerate(drawn):
                for two, second in enumerate(drawn):
                    assert (ids[one] == ids[two]) == (first.strip() == second.strip())
    first_plan, second_plan = data.plan(np.arange(5), 3, None)
    assert data.caption_ids(first_plan)[0] == data.caption_ids(second_plan)[0]
