"""The warnings of `fit` before it sends data: what the data shows, and the bounds of the look at it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from docarray import Document

from finetuner.api.data import foresight
from finetuner.api.data.fit_data import FitData
from finetuner.documents.pairs import make_pair
from finetuner.models.backbones import find_backbone

LONG = "a dress with a very long description of its cut, colour, and pattern, " * 8


def warnings_of(caplog: pytest.LogCaptureFixture, train: Any, evaluation: Any = None) -> list[str]:
    with FitData("prefix", "text-to-image", None, "raise") as data, caplog.at_level(logging.WARNING, "finetuner"):
        data.name("train_data", train, "train")
        if evaluation is not None:
            data.name("eval_data", evaluation, "eval")
        data.read()
        data.foresight.warn(find_backbone("clip-mini"), 128)
    return [record.getMessage() for record in caplog.records]


def test_planted_faults_are_named(caplog: pytest.LogCaptureFixture, jpeg: Callable[[int], bytes]) -> None:
    train = [make_pair(f"dress {number}", jpeg(number % 4), {"finetuner_label": "dress"}) for number in range(100)]
    train.append(make_pair(LONG, jpeg(1)))
    found = warnings_of(caplog, train, [make_pair("dress 7", jpeg(2))])
    for start in (
        "captions that are cut: 1 of 101. clip-mini reads",
        "labels of many pairs: 98% of all couples of pairs have the same finetuner_label",
        "images of the evaluation data in the training data: 1",
    ):
        assert any(line.startswith(f"train_data: {start}") for line in found), (start, found)


def test_clean_data_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    from finetuner.catalogue import fashion

    images = [*fashion("train", items=6)]
    assert warnings_of(caplog, [make_pair(image.captions["en"], image.jpeg) for image in images[::4]]) == []


def test_the_look_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, jpeg: Callable[[int], bytes]
) -> None:
    monkeypatch.setattr(foresight, "MOST_DOCUMENTS", 2)
    monkeypatch.setattr(foresight, "MOST_LONG", 1)
    train = [make_pair(LONG, jpeg(0)), make_pair(LONG, jpeg(1)), make_pair(LONG, b"no image"), Document(text="x")]
    seen = foresight.Foresight()
    for document in train:
        seen.add("train_data", document)
    with caplog.at_level(logging.WARNING, "finetuner"):
        seen.warn(find_backbone("clip-mini"), 128)
    found = [record.getMessage() for record in caplog.records]
    assert found[0].startswith("the first 2 of 4 documents: captions that are cut: 1 of 2")
    assert not any("cannot be decoded" in line for line in found)
