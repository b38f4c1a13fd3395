"""Batches of pairs that the model confuses, against a brute-force search."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from finetuner.executors.trainer.data import hard_batches
from finetuner.executors.trainer.data.hard_batches import HardBatches, embedded, hard_groups, mean_similarity
from finetuner.executors.trainer.data.training_data import Plan, TrainingData
from finetuner.models.clip import Clip

COUNT = 150


def sides(seed: int = 0, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.randn(2, count, 6, generator=torch.Generator().manual_seed(seed))
    image, text = torch.nn.functional.normalize(both, dim=-1)
    return image, text


def ids_of(kind: str) -> np.ndarray:
    generator = np.random.default_rng(1)
    ids = {
        "all differ": np.stack([np.arange(COUNT), np.full(COUNT, -1)]),
        "some captions and labels": np.stack([generator.integers(0, 60, COUNT), generator.integers(-1, 40, COUNT)]),
        "three labels": np.stack([np.arange(COUNT), generator.integers(0, 3, COUNT)]),
        "one caption": np.zeros((2, COUNT), dtype=np.int64) - [[0], [1]],
    }
    return ids[kind].astype(np.int64)


def naive(image: Any, text: Any, ids: Any, size: int) -> list[list[int]]:
    """By the definition, one pair of pairs at a time."""

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(image[i], text[j], strict=True)) + sum(
            a * b for a, b in zip(text[i], image[j], strict=True)
        )

    def equal(i: int, j: int) -> bool:
        return any(kind[i] == kind[j] and kind[i] >= 0 for kind in ids)

    free, groups = list(range(len(image))), []
    while free:
        group = [free.pop(0)]
        for other in sorted(free, key=lambda other: -similarity(group[0], other)):
            if len(group) < size and not any(equal(other, member) for member in group):
                group.append(other)
        free = [other for other in free if other not in group]
        groups.append(group)
    return groups


@pytest.mark.parametrize("size", [2, 5, 64])
@pytest.mark.parametrize("kind", ["all differ", "some captions and labels", "three labels", "one caption"])
def test_groups_equal_a_brute_force_search(kind: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_batches, "AT_ONCE", 7)
    image, text = sides()
    found = hard_groups(image, text, ids_of(kind), size)
    assert [group.tolist() for group in found] == naive(image.tolist(), text.tolist(), ids_of(kind).tolist(), size)
    assert sorted(np.concatenate(found).tolist()) == list(range(COUNT))


def test_mean_similarity_is_that_of_images_and_texts_of_others() -> None:
    image, text = (side.numpy() for side in sides(count=5))
    cosines = [image[i] @ text[j] for i in range(5) for j in range(5) if i != j]
    assert mean_similarity(image, text) == pytest.approx(np.mean(cosines), rel=1e-5)


def drawn(data: TrainingData, batch_size: int, seed: int = 0) -> list[Plan]:
    return data.plan(np.arange(len(data)), batch_size, np.random.default_rng(seed))


def listed(plans: Any) -> list[tuple[list[int], list[int]]]:
    return [(plan.rows.tolist(), plan.choices.tolist()) for plan in plans]


def test_every_pair_stays_and_groups_are_more_similar(
    clip_mini: Clip, blobs_of_colour: TrainingData, caplog: pytest.LogCaptureFixture
) -> None:
    plans = drawn(blobs_of_colour, 4)
    with caplog.at_level(logging.INFO, "finetuner"):
        found = HardBatches(clip_mini, blobs_of_colour, 2, 1, seed=0).arrange(plans, 1)
    whole, before = ([pair for rows, choices in listed(each) for pair in zip(rows, choices, strict=True)]
                     for each in (found, plans))  # fmt: skip
    assert sorted(whole) == sorted(before)
    assert whole != before
    assert [len(plan.rows) for plan in found] == [4, 4]
    (arguments,) = (record.args for record in caplog.records if "Hard batches of epoch" in record.message)
    assert isinstance(arguments, tuple)
    _, _, near, far, _ = arguments
    image, text = embedded(clip_mini, blobs_of_colour, Plan(*map(np.array, zip(*whole, strict=True))))
    assert near > far  # type: ignore[operator]
    of_groups = [mean_similarity(image[at : at + 2], text[at : at + 2]) for at in (0, 2, 4, 6)]
    assert near == pytest.approx(np.mean(of_groups))
    assert far == pytest.approx(mean_similarity(image, text))


def test_earlier_epochs_stay_as_they_were_drawn(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    plans = drawn(blobs_of_colour, 4)
    hard = HardBatches(clip_mini, blobs_of_colour, 2, 3, seed=0)
    assert [hard.arrange(plans, epoch) is plans for epoch in (1, 2, 3)] == [True, True, False]


def test_the_order_is_of_the_seed_and_the_epoch(clip_mini: Clip, blobs_of_colour: TrainingData) -> None:
    plans = drawn(blobs_of_colour, 4)

    def order(seed: int, epoch: int) -> Any:
        return listed(HardBatches(clip_mini, blobs_of_colour, 2, 1, seed).arrange(plans, epoch))

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2)}) > 2


def test_a_restored_order_does_not_follow_the_weights(
    clip_mini: Clip, blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, first = drawn(blobs_of_colour, 4), HardBatches(clip_mini, blobs_of_colour, 2, 1, seed=0)
    expected = listed(first.arrange(plans, 2))
    again = HardBatches(clip_mini, blobs_of_colour, 2, 1, seed=0)
    again.restore(first.state())
    monkeypatch.setattr(hard_batches, "embedded", lambda *_: pytest.fail("embedded again"))
    assert listed(again.arrange(plans, 2)) == expected


def test_larger_data_is_searched_in_parts(
    clip_mini: Clip, blobs_of_colour: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hard_batches, "MOST_COMPARED", 3)
    plans = drawn(blobs_of_colour, 8)
    order = plans[0].rows.tolist()
    (found,) = listed(HardBatches(clip_mini, blobs_of_colour, 4, 1, seed=0).arrange(plans, 1))
    parts = [set(order[:3]), set(order[3:6]), set(order[6:])]
    for part in parts:  # each part is one group
        at = [position for position, row in enumerate(found[0]) if row in part]
        assert at == list(range(at[0], at[0] + len(part)))
