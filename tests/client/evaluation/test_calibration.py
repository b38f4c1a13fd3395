"""Calibrations: the fit against plain loops, what the cut does on other data, and files from anywhere."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from finetuner.evaluation.calibration import MAX_BYTES, Background, Calibration, parse_calibration
from finetuner.evaluation.calibration_fit import RIDGE, Rows, checked, fit, fit_calibration
from finetuner.evaluation.pairs import EncodedPairs
from finetuner.exceptions import CorruptedArtifact
from finetuner.models.clip import TEXT, VISION

ID, DIM = "a" * 24, 24


def made(seed: int, items: int = 150, noise: float = 0.3) -> EncodedPairs:
    """Return two images and two texts of each item; texts lie in another region than images, as a CLIP has them."""
    rng = np.random.default_rng(seed)
    centre = np.repeat(rng.normal(size=(items, DIM)), 2, axis=0)

    def unit(offset: float, column: int) -> Any:
        vectors = centre + noise * rng.normal(size=centre.shape)
        vectors[:, column] += offset
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    keys = [f"label {row // 2}" for row in range(2 * items)]
    return EncodedPairs(unit(4, 0), keys, [""] * len(keys), unit(4, 1), keys)


PAIRS = made(0)
CALIBRATION = fit_calibration(PAIRS, ID)
assert CALIBRATION is not None


def test_every_direction_is_calibrated_where_labels_group_images() -> None:
    assert CALIBRATION is not None
    assert set(CALIBRATION.directions) == {(TEXT, TEXT), (TEXT, VISION), (VISION, TEXT), (VISION, VISION)}
    keys = [str(row) for row in range(150)]
    alone = EncodedPairs(PAIRS.text[::2], keys, [""] * 150, PAIRS.vision[::2], keys)
    found = fit_calibration(alone, ID)
    assert found is not None
    assert set(found.directions) == {(TEXT, VISION), (VISION, TEXT)}, "no image has another of its own"


def test_probabilities_equal_a_plain_loop() -> None:
    assert CALIBRATION is not None
    query = PAIRS.text[7]
    numbers = CALIBRATION.directions[TEXT, VISION]
    cosines = [float(np.dot(image.astype(np.float64), query.astype(np.float64))) for image in PAIRS.vision]
    mean = sum(cosines) / len(cosines)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in cosines) / len(cosines))
    for documents, more in ((10, 0.0), (300, 0.0), (3000, math.log(10))):
        line = CALIBRATION.query(TEXT, query, documents)[VISION]
        for cosine in cosines[:20]:
            logit = numbers.on_cosine * cosine + numbers.on_z * (cosine - mean) / deviation + numbers.bias - more
            expected = 1 / (1 + math.exp(-logit))
            assert line.probabilities([cosine])[0] == pytest.approx(expected, abs=1e-3)
            assert line.lowest_cosine(expected) == pytest.approx(cosine, abs=1e-3)
        assert np.all(np.diff(line.probabilities(np.linspace(-1, 1, 50))) > 0)
        assert (line.lowest_cosine(0), line.lowest_cosine(1)) == (-1.0, 2.0)


def test_the_fit_is_the_least_loss_of_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    cosine = rng.normal(size=200)
    relevant = cosine + rng.normal(size=200) > 0.5
    rows = Rows(cosine, cosine + rng.normal(size=200), relevant, rng.integers(1, 4, 200) * 1.0, np.zeros(200, np.int64))
    found = fit(rows, 0.5)
    assert found is not None
    positives, negatives = relevant.sum(), rows.weight[~relevant].sum()

    def loss(on_cosine: float, on_z: float, bias: float) -> float:
        total = RIDGE * ((on_cosine * cosine.std()) ** 2 + (on_z * rows.z.std()) ** 2) / 2
        for at in range(200):
            logit = on_cosine * cosine[at] + on_z * rows.z[at] + bias
            p = 1 / (1 + math.exp(-logit))
            target = (positives + 1) / (positives + 2) if relevant[at] else 1 / (negatives + 2)
            weight = rows.weight[at] * (0.5 if relevant[at] else 1.0)
            total -= weight * (target * math.log(p) + (1 - target) * math.log(1 - p))
        return total

    best = loss(*found)
    for number in range(3):
        for step in (-1e-3, 1e-3):
            moved = [value + step * (place == number) for place, value in enumerate(found)]
            assert loss(*moved) > best


def test_the_cut_at_a_half_holds_on_other_data() -> None:
    """Other items, searched with and without their documents by brute force."""
    assert CALIBRATION is not None
    other = made(1)
    shown = right = 0
    empty = []
    for row, query in enumerate(other.text):
        line = CALIBRATION.query(TEXT, query, len(other.vision))[VISION]
        kept = np.flatnonzero(line.probabilities(other.vision @ query) >= 0.5)
        own = {image for image in kept.tolist() if image // 2 == row // 2}
        shown, right = shown + len(kept), right + len(own)
        empty.append(len(own) == len(kept))
    assert right / shown >= 0.9
    assert np.mean(empty) >= 0.95
    assert right / 600 >= 0.4, "the cut leaves much of what fits"
    figures = CALIBRATION.directions[TEXT, VISION].checked
    assert figures["precision"] == pytest.approx(right / shown, abs=0.06)
    assert figures["recall"] == pytest.approx(right / 600, abs=0.1)
    assert figures["absent_empty"] == pytest.approx(np.mean(empty), abs=0.05)
    assert figures["calibration_error"] < 0.1


def test_too_few_or_unrelated_pairs_give_no_calibration() -> None:
    assert fit_calibration(made(0, items=9), ID) is None
    assert fit_calibration(made(0, noise=3.0), ID) is None, "a cut at 0.5 would find nothing"
    turned = replace(PAIRS, vision=-PAIRS.vision)
    found = fit_calibration(turned, ID)
    assert found is None or (TEXT, VISION) not in found.directions, "the more similar are not the more relevant"
    one = Rows(np.ones(3), np.ones(3), np.ones(3, bool), np.ones(3), np.zeros(3, np.int64))
    assert fit(one) is None
    assert checked(one, np.zeros(1, np.int64)) == {}


def test_scores_of_pairs_decide_relevance() -> None:
    scores = [{row: 1.0, row ^ 1: 0.5, (row + 2) % 300: 0.0} for row in range(300)]
    found = fit_calibration(replace(PAIRS, scores=scores), ID)
    assert found is not None
    assert set(found.directions) == {(TEXT, VISION), (VISION, TEXT)}


def test_a_background_of_few_axes_has_the_whole_variance() -> None:
    background = Background.of(PAIRS.vision, 3)
    _, deviations = background(PAIRS.text)
    assert float(np.mean(deviations / (PAIRS.text @ PAIRS.vision.T).std(1))) == pytest.approx(1, abs=0.1)


def test_a_file_gives_the_same_calibration() -> None:
    assert CALIBRATION is not None
    read = parse_calibration(CALIBRATION.to_json().encode(), ID, DIM)
    assert isinstance(read, Calibration)
    assert read.to_json() == CALIBRATION.to_json()


def changed(*path: Any, to: Any) -> bytes:
    assert CALIBRATION is not None
    content = json.loads(CALIBRATION.to_json())
    inside = content
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = to
    return json.dumps(content).encode()


NAN = np.full(DIM, np.nan, "<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (changed("artifact", to="b" * 24), "must be of its own artifact. Got one of 'bbbbbbbb"),
        (changed("dim", to=512), "with 512 numbers a vector"),
        (changed("format", to=2), "format 2"),
        (changed("directions", 0, "query", to="clip-audio"), "towers"),
        (changed("directions", 0, "document", to=["x"]), "as a run wrote it"),
        (changed("directions", 0, "on_z", to=-1), "must be a number in"),
        (changed("directions", 0, "bias", to=1e400), "must be a number in"),
        (changed("directions", 0, "documents", to=0), "must be a number in"),
        (changed("backgrounds", VISION, "mean", to="AAAA"), "as a run wrote it"),
        (changed("backgrounds", VISION, "mean", to=""), "as a run wrote it"),
        (changed("backgrounds", VISION, "axes", to="no base64!"), "as a run wrote it"),
        (changed("backgrounds", VISION, "axes", to="AAAA" * 10_000), "an array of"),
        (changed("backgrounds", VISION, "rest", to="1"), "must be a number in"),
        (b"[" * 100_000, "as a run wrote it"),
        (b"[1]", "as a run wrote it"),
        (b" " * (MAX_BYTES + 1), "bytes"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "file",
)
def test_a_file_from_elsewhere_is_checked(content: bytes, expected: str) -> None:
    with pytest.raises(CorruptedArtifact, match=expected):
        parse_calibration(content, ID, DIM)


def test_numbers_that_are_none_are_refused() -> None:
    import base64

    for values in (NAN, np.full(DIM, 1e9, "<f4").tobytes()):
        with pytest.raises(CorruptedArtifact, match="an array of"):
            parse_calibration(changed("backgrounds", VISION, "mean", to=base64.b64encode(values).decode()), ID, DIM)
