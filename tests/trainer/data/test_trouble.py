"""A run's log names what predicts trouble in its data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from docarray import Document

from finetuner.catalogue import fashion
from finetuner.documents.pairs import Pair, read_pairs
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.training_data import TrainingData, prepare
from finetuner.executors.trainer.data.trouble import _even, troubles
from finetuner.models.clip import Clip
from tests.client.statistics.test_looks import saved_again


def prepared(model: Clip, folder: Path, version: str, pairs: list[Pair]) -> TrainingData:
    return prepare(pairs, model, ImageCache(folder, 10**9), version * 64, 2)


def test_clean_pairs_have_none(clip_mini: Clip, tmp_path: Path, pairs: list[Document]) -> None:
    good = read_pairs(pairs)
    train = prepared(clip_mini, tmp_path, "a", good[:-2])
    evaluation = prepared(clip_mini, tmp_path, "b", [Pair("x", image.jpeg) for image in fashion("test", items=2)])
    assert list(troubles(clip_mini, train, evaluation, 8)) == []
    assert list(troubles(clip_mini, train, None, 8)) == []


def test_cuts_doubles_and_leaks_are_named(clip_mini: Clip, tmp_path: Path) -> None:
    import io

    from finetuner.documents.images import decode

    images = list(fashion("train", items=6))
    pairs = [Pair(image.captions["en"], image.jpeg) for image in images]
    file = io.BytesIO()
    saved_again(decode(images[0].jpeg)).save(file, "PNG")
    double = Pair("the same again", file.getvalue())
    train = prepared(clip_mini, tmp_path, "a", [*pairs, double, Pair("word " * 60, images[1].jpeg)])
    evaluation = prepared(clip_mini, tmp_path, "b", [pairs[2], *(Pair("x", i.jpeg) for i in fashion("test", items=1))])
    cut, near, leak = troubles(clip_mini, train, evaluation, 8)
    assert re.match(r"captions that are cut: 1 of 14. clip-mini reads 48 tokens, the longest has \d+ \('word word", cut)
    assert re.match(r"near duplicates: 2 of 13 images, such as .* and the image of 'the same again'.*of 8\.", near)
    assert re.match(r"images of the evaluation data in the training data: 1, and 0 near .*, such as the image of", leak)


def test_labels_that_are_classes_are_named(clip_mini: Clip) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 3, 80, 80), dtype=np.uint8)
    captions = [[f"shirt {row}"] for row in range(100)]
    classes = TrainingData(pixels, captions, labels=[["ab"[row % 2]] for row in range(100)])
    (trouble,) = troubles(clip_mini, classes, None, 8)
    assert trouble.startswith("labels of many pairs: 50% of all couples of pairs have the same finetuner_label")
    assert "there are 2 labels. Leave the labels out if they are classes" in trouble
    for labels in ((), [[str(row // 2)] for row in range(100)]):
        assert list(troubles(clip_mini, replace(classes, labels=labels), None, 8)) == []


def test_a_sample_is_even() -> None:
    assert _even(3, 10).tolist() == [0, 1, 2]
    assert _even(100, 4).tolist() == [0, 33, 66, 99]
