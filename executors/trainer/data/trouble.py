"""Finds what predicts trouble in prepared pairs: cut captions, near duplicates, few labels, leaked evaluation data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from finetuner.exceptions import InvalidInput
from finetuner.models.text.text_towers import CONTEXT_LENGTH
from finetuner.statistics.captions import Tokens
from finetuner.statistics.describe import Overlap, same_labels
from finetuner.statistics.looks import Look, look_at, near_groups
from finetuner.statistics.spread import Spread
from finetuner.statistics.tokens import counter_of
from finetuner.statistics.trouble import of_near_images, of_overlap, of_same_labels, of_tokens

from .training_data import TrainingData

if TYPE_CHECKING:
    from finetuner.models.clip import Clip

MOST_CAPTIONS, MOST_IMAGES, MOST_SCORED = 20_000, 4000, 2000
"""Of more, an even sample is taken: 3 s at most."""
SHOWN = 40  # characters of a caption


def troubles(model: Clip, data: TrainingData, evaluation: TrainingData | None, batch_size: int) -> Iterator[str]:
    """Yield a sentence for each trouble.

    Args:
        model: its tokenizer cuts captions.
        data: training data.
        evaluation: None without.
        batch_size: of the training.
    """
    yield from _cuts(model, data)
    yield from _few_labels(data)
    rows, looks = _looks(data, MOST_IMAGES)
    groups = near_groups(looks)
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups)
    example = " and ".join(_named(data, rows[at]) for at in groups[0][:2]) if groups else ""
    yield from of_near_images(sum(map(len, groups)), pairs, len(looks), example, batch_size)
    if evaluation is not None:
        yield from _shared(data, evaluation, rows, looks)


def _cuts(model: Clip, data: TrainingData) -> Iterator[str]:
    captions = [caption for row in _even(len(data), MOST_CAPTIONS) for caption in data.captions[row]][:MOST_CAPTIONS]
    limit = model.config["text_cfg"].get("context_length", CONTEXT_LENGTH)
    try:
        lengths = counter_of(model.model_id, model.tokenizer, limit).count(captions)
    except InvalidInput:  # a tokenizer that cannot count
        return
    longest = int(np.argmax(lengths))
    cut = sum(length > limit for length in lengths)
    tokens = Tokens(model.model_id, limit, Spread.of(lengths), cut, longest)
    yield from of_tokens(tokens, len(captions), repr(f"{captions[longest][:SHOWN]} ..."))


def _few_labels(data: TrainingData) -> Iterator[str]:
    labels = Counter(label for each in data.labels for label in each if label)
    share = same_labels(labels.values(), sum(map(len, data.labels)))
    yield from of_same_labels(share, len(labels), len(data))


def _shared(data: TrainingData, evaluation: TrainingData, rows: np.ndarray, looks: list[Look]) -> Iterator[str]:
    scored, others = _looks(evaluation, MOST_SCORED)
    equal, near, example = 0, 0, ""
    for group in near_groups([*looks, *others]):
        seen = [at for at in group if at < len(looks)]
        for at in [at - len(looks) for at in group if at >= len(looks)] if seen else []:
            same = any(np.array_equal(evaluation.pixels[scored[at]], data.pixels[rows[one]]) for one in seen)
            equal, near = equal + same, near + (not same)
            example = example or _named(evaluation, scored[at])
    yield from of_overlap(Overlap(equal, near, None, 0), example)


def _looks(data: TrainingData, most: int) -> tuple[np.ndarray, list[Look]]:
    """Return rows of the data and the looks of their pixels, as the model gets them."""
    rows = _even(len(data), most)
    return rows, [look_at(Image.fromarray(np.ascontiguousarray(data.pixels[row].transpose(1, 2, 0)))) for row in rows]


def _even(count: int, most: int) -> np.ndarray:
    """Return at most `most` positions below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _named(data: TrainingData, row: int) -> str:
    return f"the image of {data.captions[row][0][:SHOWN]!r}"
