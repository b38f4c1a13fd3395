"""Fits a calibration on evaluation pairs, and checks it on queries that it was not fitted with.

Every query counts twice. Once its documents are there: each is a positive, all others are negatives. Once they are left
out, as for a concept that the index does not have: all are negatives. The two are weighted by ABSENT, the share of
queries that ask for something absent. It is high on purpose: with ABSENT = 0.9 a document reaches 0.5 where it is
relevant in nine of ten searches for something that is there, and searches for something absent rarely show anything.

The factors maximise the likelihood (Newton's method), with Platt's targets against over-fitting and no factor below 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..models.clip import TEXT, TOWERS, VISION
from .calibration import KINDS, Background, Calibration, Direction, Floats
from .pairs import EncodedPairs

ABSENT = 0.9
AXES = 32  # of a background
FEWEST = 20  # queries with a relevant document, and documents
MAX_QUERIES = 1000
# Negatives of a query: the nearest ones, and a sample of the others that stands for all of them.
NEAREST, SAMPLED = 32, 32
SAME = 1 - 1e-6  # cosine of a document with itself, or with its copy
RIDGE, STEPS = 1e-3, 50
CUT = 0.5
LEAST_RECALL = 0.05  # at the cut: a calibration that leaves out nearly everything helps nobody
FOLDS = 2
BINS, LEAST = 10, 0.05

log = logging.getLogger("finetuner")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Pairs of a query and a document, (rows,) each."""

    cosine: Array
    z: Array
    relevant: NDArray[np.bool_]
    weight: Array
    """Number of pairs that a row stands for."""
    query: NDArray[np.int64]
    """Number of the query."""

    def of(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(self.cosine[chosen], self.z[chosen], self.relevant[chosen], self.weight[chosen], self.query[chosen])


Numbers = tuple[float, float, float]
"""on_cosine, on_z, bias"""


def fit_calibration(encoded: EncodedPairs, artifact: str, absent: float = ABSENT) -> Calibration | None:
    """Return the calibration of a model by the pairs that it has encoded, or None where they do not suffice.

    It has each direction, such as texts to images, with at least FEWEST queries that have a relevant document, at least
    FEWEST documents, and scores that tell: a cut at 0.5 finds at least LEAST_RECALL of what fits, for queries that the
    numbers were not fitted with. Texts to texts and images to images need several with one label.

    Args:
        encoded: the evaluation data.
        artifact: id of the model's artifact.
        absent: share of queries for something absent, in (0, 1).
    """
    sides = {TEXT: encoded.text, VISION: encoded.vision}
    backgrounds: dict[str, Background] = {}
    directions: dict[tuple[str, str], Direction] = {}
    for asked, tower in product(TOWERS, TOWERS):
        if len(sides[tower]) < FEWEST:
            continue
        background = backgrounds.get(tower) or Background.of(sides[tower], AXES)
        relevant = _relevant(encoded, asked, tower)
        having = [query for query in range(len(sides[asked])) if relevant(query)]
        if len(having) < FEWEST:
            continue
        chosen = sorted(np.random.default_rng(0).permutation(len(having))[:MAX_QUERIES].tolist())
        queries = [having[each] for each in chosen]
        found = _rows(sides[asked], sides[tower], queries, relevant, background, same=asked == tower)
        numbers = fit(found, absent)
        if numbers is None:
            log.info("Calibration: scores of %s to %s do not tell relevant ones", KINDS[asked], KINDS[tower])
            continue
        # queries of one label are in one part: they have the same documents, or are one another's
        firsts = [_first(relevant(each), each, asked == tower) for each in queries]
        groups = np.unique(firsts, return_inverse=True)[1] % FOLDS
        figures = checked(found, groups, absent)
        if figures.get("recall", 0.0) < LEAST_RECALL:
            log.info(
                "Calibration: scores of %s to %s are too close together. A cut at 0.5 would find %.1f%% of what fits",
                *(KINDS[asked], KINDS[tower], 100 * figures.get("recall", 0.0)),
            )
            continue
        backgrounds[tower] = background
        directions[asked, tower] = Direction(*numbers, documents=len(sides[tower]), checked=figures)
        log.info(
            "Calibration of %s to %s: at 0.5 precision %.3f, recall %.3f; %.1f%% of absent queries find nothing",
            *(KINDS[asked], KINDS[tower], figures["precision"], figures["recall"], 100 * figures["absent_empty"]),
        )
    if not directions:
        return None
    return Calibration(artifact, encoded.text.shape[1], absent, directions, backgrounds)


def _first(documents: Sequence[int], query: int, same: bool) -> int:
    return min(*documents, query) if same else min(documents)


def _relevant(encoded: EncodedPairs, asked: str, tower: str) -> Callable[[int], Sequence[int]]:
    """Return a function from the row of a query to the rows of its documents."""
    if encoded.scores is not None:
        if asked == tower:  # scores say nothing of texts and texts
            return lambda query: ()
        images = [[image for image, score in row.items() if score > 0] for row in encoded.scores]
        if asked == TEXT:
            return images.__getitem__
        texts: dict[int, list[int]] = {}
        for text, row in enumerate(images):
            for image in row:
                texts.setdefault(image, []).append(text)
        return lambda query: texts.get(query, ())
    keys = {TEXT: encoded.text_keys, VISION: encoded.vision_keys}
    having: dict[str, list[int]] = {}
    for place, key in enumerate(keys[tower]):
        having.setdefault(key, []).append(place)
    if asked != tower:
        return lambda query: having.get(keys[asked][query], ())
    return lambda query: [other for other in having[keys[asked][query]] if other != query]


def _rows(
    asked: Floats,
    documents: Floats,
    queries: Sequence[int],
    relevant: Callable[[int], Sequence[int]],
    background: Background,
    *,
    same: bool,
) -> Rows:
    """Return all positives of the queries, their nearest negatives, and a sample of the others.

    Args:
        asked: (queries, dim) float32.
        documents: (documents, dim) float32.
        queries: rows of `asked`.
        relevant: rows of the documents of a query.
        background: of the documents.
        same: whether queries and documents are of one side; copies of the query are then no documents.
    """
    rng = np.random.default_rng(0)
    parts: list[Rows] = []
    for number, query in enumerate(queries):
        vector = asked[query : query + 1]
        cosines = (vector @ documents.T)[0].astype(np.float64)
        mean, deviation = (float(each[0]) for each in background(vector))
        known = cosines < SAME if same else np.ones(len(cosines), bool)
        is_relevant = np.zeros(len(cosines), bool)
        is_relevant[list(relevant(query))] = True
        positives = np.flatnonzero(is_relevant & known)
        order = np.flatnonzero(~is_relevant & known)
        order = order[np.argsort(-cosines[order], kind="stable")]
        near, others = order[:NEAREST], order[NEAREST:]
        sampled = rng.choice(others, min(SAMPLED, len(others)), replace=False) if len(others) else others
        rows = np.concatenate([positives, near, sampled])
        weight = np.ones(len(rows))
        weight[len(positives) + len(near) :] = len(others) / max(len(sampled), 1)
        z = (cosines[rows] - mean) / deviation
        parts.append(Rows(cosines[rows], z, is_relevant[rows], weight, np.full(len(rows), number)))
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__dataclass_fields__))


def fit(rows: Rows, absent: float = ABSENT) -> Numbers | None:
    """Return the numbers with the highest likelihood, or None if the more similar are not the more relevant.

    Args:
        rows: with at least one positive and one negative.
        absent: share of queries for something absent.
    """
    if rows.relevant.all() or not rows.relevant.any():
        return None
    inputs = np.stack([rows.cosine, rows.z, np.ones(len(rows.z))], axis=1)
    scale = np.array([max(rows.cosine.std(), 1e-9), max(rows.z.std(), 1e-9), 1.0])
    positives, negatives = rows.relevant.sum(), rows.weight[~rows.relevant].sum()
    target = np.where(rows.relevant, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weight = np.where(rows.relevant, 1 - absent, 1.0) * rows.weight
    tried: list[tuple[float, Numbers]] = []
    for used in ((0, 1, 2), (0, 2), (1, 2)):
        chosen = list(used)
        found, loss = _newton(inputs[:, chosen] / scale[chosen], target, weight)
        numbers = np.zeros(3)
        numbers[chosen] = found / scale[chosen]
        if numbers[0] >= 0 and numbers[1] >= 0 and numbers[:2].any():
            tried.append((loss, (float(numbers[0]), float(numbers[1]), float(numbers[2]))))
    return min(tried)[1] if tried else None


def _newton(inputs: Array, target: Array, weight: Array) -> tuple[Array, float]:
    """Return the factors of a logistic regression and its loss, by Newton's method with halved steps."""
    factors = np.zeros(inputs.shape[1])
    shrunk = np.full(inputs.shape[1], RIDGE)
    shrunk[-1] = 0  # of the bias

    def loss_of(tried: Array) -> float:
        logits = inputs @ tried
        return float(weight @ (np.logaddexp(0, logits) - target * logits) + (shrunk * tried**2).sum() / 2)

    loss = loss_of(factors)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(inputs @ factors, -700, 700)))
        gradient = inputs.T @ (weight * (p - target)) + shrunk * factors
        curvature = (inputs * (weight * p * (1 - p))[:, None]).T @ inputs + np.diag(shrunk + 1e-9)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while (tried := loss_of(factors - size * step)) > loss and size > 1e-6:
            size /= 2
        done = loss - tried <= 1e-10 * max(loss, 1.0)
        if tried < loss:
            factors, loss = factors - size * step, tried
        if done:
            break
    return factors, loss


def checked(rows: Rows, groups: NDArray[np.int64], absent: float = ABSENT) -> Mapping[str, float]:
    """Return the figures of the cut at 0.5, of queries that the numbers were not fitted with.

    The queries are in two parts that share no documents to find. The numbers of each part are tried on the other.

    Args:
        rows: all rows.
        groups: part of each query, 0 or 1.
        absent: share of queries for something absent.

    Returns:
        Of queries whose documents are there: `precision`, the share of relevant ones among the documents above the cut,
        and `recall`, the share of relevant documents above it. `absent_empty`: the share of queries that find nothing
        where their documents are left out. `calibration_error`: the mean difference of probability and share of
        relevant ones over ten ranges from LEAST up (expected calibration error), with ABSENT. `queries`: their number.
        {} if a part has no fit.
    """
    p, tried = np.zeros(len(rows.z)), np.zeros(len(rows.z), bool)
    for part in range(FOLDS):
        mine = groups[rows.query] == part
        numbers = fit(rows.of(~mine), absent) if mine.any() and not mine.all() else None
        if numbers is None:
            return {}
        logits = numbers[0] * rows.cosine[mine] + numbers[1] * rows.z[mine] + numbers[2]
        p[mine], tried[mine] = 1 / (1 + np.exp(-np.clip(logits, -700, 700))), True
    kept = p >= CUT
    right = float((rows.weight * (kept & rows.relevant)).sum())
    shown = float((rows.weight * kept).sum())
    queries = int(rows.query.max()) + 1
    wrongly = len(set(rows.query[kept & ~rows.relevant].tolist()))
    weight = np.where(rows.relevant, 1 - absent, 1.0) * rows.weight
    error = total = 0.0
    for low in np.linspace(0, 1, BINS + 1)[:-1]:
        inside = (p >= max(low, LEAST)) & (p < low + 1 / BINS)
        share = weight[inside].sum()
        error += abs(float((weight[inside] * (p[inside] - rows.relevant[inside])).sum()))
        total += float(share)
    return {
        "precision": right / shown if shown else 0.0,
        "recall": right / max(float(rows.relevant.sum()), 1),
        "absent_empty": 1 - wrongly / queries,
        "calibration_error": error / total if total else 0.0,
        "queries": float(queries),
    }
