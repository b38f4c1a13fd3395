"""Scores of pairs against a plain loop over every text and every image."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL.Image import Image

from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import PREFIX, RECALLS, evaluate_pairs, image_to_text, text_to_image
from finetuner.exceptions import InvalidInput
from finetuner.metrics import NINE, TEXTBOOK
from finetuner.models.clip import Clip

WORDS = [
    "red",
    "blue",
    "green",
    "dress",
    "shirt",
    "coat",
    "striped",
    "plain",
    "long",
    "short",
    "rot",
    "blau",
    "Kleid",
    "Hemd",
]
Jpeg = Callable[[int], bytes]


def random_pairs(
    jpeg: Jpeg, count: int, images: int, *, labels: int = 0, languages: tuple[str, ...] = ("",)
) -> list[Pair]:
    """Return pairs whose label, if any, depends on the image alone."""
    generator = random.Random(count)
    pairs = []
    for number in range(count):
        image = number if number < images else generator.randrange(images)
        text = " ".join(generator.sample(WORDS, 4))
        label = f"item {image % labels}" if labels else ""
        pairs.append(Pair(text, jpeg(image), label, languages[number % len(languages)]))
    return pairs


def naive(model: Clip | Cut, pairs: list[Pair], limit: int) -> dict[str, float]:
    """Score by comparing every text with every image, one after the other."""
    images: list[Pair] = []
    for pair in pairs:
        if pair.image not in [other.image for other in images]:
            images.append(pair)
    text = [vector.astype(np.float64) for vector in model.encode_texts([pair.text for pair in pairs])]
    vision = [model.encode_images([decode(pair.image)])[0].astype(np.float64) for pair in images]

    def relevant(a: Pair, b: Pair) -> bool:
        return a.label == b.label if a.label else a.image == b.image

    def ranked(query: int, forward: bool, allowed: list[int]) -> list[int]:
        own, others = (text[query], vision) if forward else (vision[query], text)
        return sorted(allowed, key=lambda other: -float(own @ others[other]))

    scores: dict[str, float] = {}
    everything = list(range(len(images)))
    rows = [
        [relevant(pair, images[row]) for row in ranked(number, True, everything)] for number, pair in enumerate(pairs)
    ]
    for metric in (*NINE, *TEXTBOOK):
        values = [metric(row[:limit], sum(row)) for row in rows]
        scores[PREFIX + metric.__name__] = sum(values) / len(values)
    for language in ["", *sorted({pair.language for pair in pairs} - {""})]:
        own = [number for number, pair in enumerate(pairs) if language in ("", pair.language)]
        described = [row for row in everything if any(relevant(pairs[number], images[row]) for number in own)]
        for k in (1, 5, 10):
            found = [any(rows[number][:k]) for number in own]
            scores[text_to_image(k, language)] = sum(found) / len(found)
            found = [
                any(relevant(pairs[text], images[row]) for text in ranked(row, False, own)[:k]) for row in described
            ]
            scores[image_to_text(k, language)] = sum(found) / len(found)
    return scores


class Cut:
    """A model whose embeddings are the first numbers of another one's."""

    def __init__(self, model: Clip, dim: int) -> None:
        self.model, self.dim = model, dim

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return self._cut(self.model.encode_texts(texts))

    def encode_images(self, images: list[Image]) -> np.ndarray:
        return self._cut(self.model.encode_images(images))

    def _cut(self, vectors: np.ndarray) -> np.ndarray:
        return np.array([row[: self.dim] / np.sqrt((row[: self.dim] ** 2).sum()) for row in vectors])


@pytest.mark.parametrize("limit", [3, 20])
@pytest.mark.parametrize(
    ("labels", "languages"),
    [(0, ("",)), (7, ("",)), (0, ("en", "de")), (7, ("en", "en", "de"))],
    ids=["captions of an image", "labels", "captions in two languages", "labels and two languages"],
)
def test_equals_a_plain_loop(mini: Clip, jpeg: Jpeg, labels: int, languages: tuple[str, ...], limit: int) -> None:
    pairs = random_pairs(jpeg, 26, 12, labels=labels, languages=languages)
    found, expected = evaluate_pairs(mini, pairs, limit=limit, batch_size=7), naive(mini, pairs, limit)
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_short_vectors_are_scored_as_a_model_of_that_size_would_be(mini: Clip, jpeg: Jpeg) -> None:
    pairs = random_pairs(jpeg, 26, 12, labels=7, languages=("en", "de"))
    found = evaluate_pairs(mini, pairs, dims=(64, 8))
    whole = evaluate_pairs(mini, pairs)
    short = {name: value for name, value in found.items() if name.endswith(("/64d", "/8d"))}
    assert {name: value for name, value in found.items() if name not in short} == whole
    for dim in (64, 8):
        expected = naive(Cut(mini, dim), pairs, 20)
        for way in (text_to_image, image_to_text):
            for k in RECALLS:
                assert short.pop(f"{way(k)}/{dim}d") == pytest.approx(expected[way(k)])
    assert not short, "languages have no short vectors of their own"


def test_an_image_counts_only_for_the_languages_of_its_captions(mini: Clip, jpeg: Jpeg) -> None:
    pairs = [Pair("a red dress", jpeg(0), "", "en"), Pair("ein rotes Kleid", jpeg(1), "", "de")]
    found = evaluate_pairs(mini, pairs)
    assert found[image_to_text(1, "en")] == found[image_to_text(1, "de")] == 1.0


def test_a_broken_image_is_skipped_with_its_texts(mini: Clip, jpeg: Jpeg) -> None:
    good = random_pairs(jpeg, 12, 6)
    broken = [Pair("a broken one", jpeg(99)[:200], "", ""), Pair("the same again", jpeg(99)[:200], "", "")]
    assert evaluate_pairs(mini, [*good[:5], *broken, *good[5:]]) == evaluate_pairs(mini, good)


def test_no_pair_and_no_good_image_are_refused(mini: Clip) -> None:
    with pytest.raises(InvalidInput, match="at least one pair. Got none"):
        evaluate_pairs(mini, [])
    with pytest.raises(InvalidInput, match="at least one image that can be decoded. Got none"):
        evaluate_pairs(mini, [Pair("a text", b"no image")])
