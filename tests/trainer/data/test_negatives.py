"""The negatives of a batch."""

from __future__ import annotations

import numpy as np

from finetuner.executors.trainer.data.negatives import FILLING, NegativeTexts
from finetuner.executors.trainer.data.training_data import Plan, TrainingData


def plan(*rows: int) -> Plan:
    return Plan(np.array(rows), np.zeros(len(rows), dtype=np.int64))


DATA = TrainingData(
    np.zeros((4, 3, 2, 2), np.uint8),
    [["a"], ["b", "c"], ["d"], ["e"]],
    [["one"], ["", ""], ["two"], [""]],
    [[["x", "d"]], [["y"], []], [[]], [[]]],
)


def test_every_share_of_a_batch_gets_equally_many_places() -> None:
    found = NegativeTexts(DATA).of(plan(1, 2), plan(1, 0, 2, 3))
    assert found is not None
    assert found.texts == ["y", FILLING, FILLING, FILLING]
    assert [[DATA.texts[number] if number >= 0 else None for number in row] for row in found.ids.tolist()] == [
        ["y", None],
        [None, None],
    ]
    assert [[DATA.texts[number] for number in row if number >= 0] for row in found.known.tolist()] == [
        ["b", "c"],
        ["d"],
    ]


def test_a_negative_has_the_label_of_the_image_that_it_describes() -> None:
    found = NegativeTexts(DATA).of(plan(0), plan(0, 3))
    assert found is not None
    assert found.texts == ["x", "d"]
    assert found.label_ids.tolist() == [[-1, DATA.label_ids(plan(2))[0]]]


def test_a_batch_without_negatives_has_none() -> None:
    assert NegativeTexts(DATA).of(plan(2), plan(2, 3)) is None
