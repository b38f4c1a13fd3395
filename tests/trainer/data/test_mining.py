"""Mining of hard negatives against a loop over images, and what it leaves out."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.config.hard_negatives import HardNegatives
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data import mining
from finetuner.executors.trainer.data.mining import Miner, mine
from finetuner.executors.trainer.data.negatives import NegativeTexts
from finetuner.executors.trainer.data.training_data import Plan, TrainingData
from finetuner.models.clip import Clip


def naive(cosines: Any, own: Any, forbidden: Any, options: HardNegatives) -> tuple[list[list[int]], int]:
    found, rejected = [], 0
    for row, (similar, positive) in enumerate(zip(cosines, own, strict=True)):
        allowed = [column for column in range(len(similar)) if not forbidden[row][column]]
        ranked = sorted(allowed, key=lambda column: -similar[column])[slice(*options.range)]
        most = positive - abs(positive) * (1 - options.relative_margin)
        good = [column for column in ranked if similar[column] <= most]
        rejected += len(ranked) - len(good)
        good = good[: options.per_image]
        found.append(good + [-1] * (options.per_image - len(good)))
    return found, rejected


@pytest.mark.parametrize(
    "options",
    [
        HardNegatives(1),
        HardNegatives(3, (0, 10), 0.5),
        HardNegatives(3, (4, 7), 1.0),
        HardNegatives(2, (0, 1000), 0.95),
        HardNegatives(4, (20, 24), 0.95),
    ],
    ids=str,
)
def test_mined_captions_equal_a_loop_over_images(options: HardNegatives) -> None:
    generator = np.random.default_rng(0)
    cosines = generator.uniform(-1, 1, (9, 30)).astype(np.float32)
    own = [0.9, 0.3, 0.0, -0.2, -0.9, 0.5, 1.0, -1.0, 0.1]
    forbidden = generator.random((9, 30)) < 0.2
    forbidden[8] = True
    found = mine(torch.from_numpy(cosines.copy()), own, forbidden, options)
    assert (found.captions.tolist(), found.rejected) == naive(cosines.tolist(), own, forbidden, options)


def test_a_margin_lowers_the_limit_of_a_negative_cosine_too() -> None:
    cosines = torch.tensor([[-0.45, -0.5, -0.52, -0.6]])
    found = mine(cosines, [-0.5], np.zeros((1, 4), dtype=bool), HardNegatives(4, (0, 4), 0.95))
    assert found.captions.tolist() == [[3, -1, -1, -1]], "at most -0.525"
    assert found.rejected == 3


def rows_of(data: TrainingData) -> np.ndarray:
    return np.arange(len(data))


def naive_miner(model: Clip, data: TrainingData, options: HardNegatives) -> tuple[list[list[str]], int]:
    images = model.encode_pixels(list(torch.from_numpy(data.pixels.copy())))
    captions = sorted({caption.strip() for each in data.captions for caption in each}, key=data.texts.index)
    texts = model.encode_texts(captions)
    labels = data.labels or [[""] * len(each) for each in data.captions]
    own, forbidden = [], []
    for row, image in enumerate(images):
        mine_too = {caption.strip() for caption in data.captions[row]}
        for other, each in enumerate(data.captions):
            for caption, label in zip(each, labels[other], strict=True):
                if label and label in labels[row]:
                    mine_too.add(caption.strip())
        own.append(min(float(image @ texts[captions.index(caption.strip())]) for caption in data.captions[row]))
        forbidden.append([caption in mine_too for caption in captions])
    found, rejected = naive((images @ texts.T).tolist(), own, forbidden, options)
    return [[captions[column] for column in each if column >= 0] for each in found], rejected


@pytest.mark.parametrize("labels", ["", "aab bccc"])
@pytest.mark.parametrize("margin", [0.9, 1.0])
def test_a_miner_equals_a_loop_and_logs_what_it_kept(
    labels: str, margin: float, clip_mini: Clip, blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(mining, "IMAGES_AT_ONCE", 3)
    captions = [*blobs_of_colour.captions[:6], ("a shirt, number 0", "x"), (" a shirt, number 1",)]
    data = TrainingData(
        blobs_of_colour.pixels,
        captions,
        [[label.strip()] * len(each) for label, each in zip(labels, captions, strict=True)] if labels else (),
    )
    options = HardNegatives(3, (1, 12), margin)
    miner = Miner(clip_mini, data, rows_of(data), options, seed=0)
    with caplog.at_level(logging.INFO, "finetuner"):
        miner.prepare(1)
    expected, rejected = naive_miner(clip_mini, data, options)
    assert [[data.texts[number] for number in miner.of_row(row)] for row in range(8)] == expected
    kept, images = sum(map(len, expected)), sum(map(bool, expected))
    line = f"before epoch 1: kept {kept} captions for {images} of 8 images, left out {rejected} more similar"
    assert line in caplog.text
    assert kept


def test_only_the_rows_of_the_training_data_are_searched(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    miner = Miner(clip_mini, blobs_of_colour, np.array([1, 2, 4, 5]), HardNegatives(1, (0, 4), 1.0), seed=0)
    miner.prepare(1)
    found = [blobs_of_colour.texts[number] for row in (1, 2, 4, 5) for number in miner.of_row(row)]
    assert found
    assert {text[-1] for text in found} <= {*"1245"}


def test_of_many_captions_a_part_is_searched(
    clip_mini: Clip, blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mining, "MOST_CAPTIONS", 5)
    miner = Miner(clip_mini, blobs_of_colour, rows_of(blobs_of_colour), HardNegatives(3, (0, 9), 1.0), seed=0)
    miner.prepare(1)
    assert len({number for row in range(8) for number in miner.of_row(row)}) <= 5


def test_captions_are_mined_before_the_first_epoch_and_every_few(
    clip_mini: Clip, blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture
) -> None:
    miner = Miner(clip_mini, blobs_of_colour, rows_of(blobs_of_colour), HardNegatives(1, every=2), seed=0)
    with caplog.at_level(logging.INFO, "finetuner"):
        for epoch in (1, 2, 3, 4, 5):
            miner.prepare(epoch)
    assert [record.args[0] for record in caplog.records] == [1, 3, 5]  # type: ignore[index]


def test_what_was_mined_is_restored(
    clip_mini: Clip, blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = HardNegatives(2, (0, 9), 1.0)
    first, again = (Miner(clip_mini, blobs_of_colour, rows_of(blobs_of_colour), options, 0) for _ in range(2))
    first.prepare(3)
    again.restore(first.state())
    monkeypatch.setattr(mining, "mine", lambda *_: pytest.fail("mined again"))
    again.prepare(3)
    assert [again.of_row(row) for row in range(8)] == [first.of_row(row) for row in range(8)]


def test_batches_have_their_size_before_the_first_mining(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    miner = Miner(clip_mini, blobs_of_colour, rows_of(blobs_of_colour), HardNegatives(2), seed=0)
    plan = Plan(np.arange(4), np.zeros(4, dtype=np.int64))
    found = NegativeTexts(blobs_of_colour, miner).of(plan, plan)
    assert found is not None
    assert all(
        set(ids) - {-1} <= set(known) for ids, known in zip(found.ids.tolist(), found.known.tolist(), strict=True)
    )


@pytest.mark.parametrize(("count", "per_image"), [(8, 4), (3, 1)])
def test_too_few_images_are_refused(count: int, per_image: int, clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    message = f"train_data must hold at least {2 * per_image + 2} images for hard_negatives.*Got {count}. Lower per_im"
    with pytest.raises(InvalidInput, match=message):
        Miner(clip_mini, blobs_of_colour, np.arange(count), HardNegatives(per_image), seed=0)
