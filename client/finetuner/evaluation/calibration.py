"""The probability that a match is relevant, from its similarity with the query.

Cosines say little by themselves: a text and its image have 0.3, two images of one product 0.9, and some queries are
nearer to everything. So the similarity is also compared with those that the query has with the evaluation data:

    z = (cosine - mean) / deviation
    p = sigmoid(on_cosine * cosine + on_z * z + bias - max(0, log(documents / documents of the evaluation data)))

This is Platt's scaling (1999) of two inputs. Both factors are at least 0, so a more similar document has the higher
probability. The last term is the change of the odds where an index has more documents to confuse, and as few to find.
`calibration_fit` finds the numbers.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import CorruptedArtifact
from ..models.clip import TEXT, TOWERS, VISION

FORMAT = 1
MAX_BYTES = 2**23  # of the file
MAX_AXES = 64
MAX_FACTOR = 1e6  # of every number in the file
LEAST_DEVIATION = 1e-4
KINDS = {TEXT: "text", VISION: "image"}
"""Names of queries and documents by the tower that encodes them."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Background:
    """Mean and spread of a query's similarities with the documents of the evaluation data, without these documents."""

    mean: Floats
    """(dim,) mean of the documents' vectors."""
    axes: Floats
    """(axes, dim) directions in which the documents differ most, each as long as the root of its surplus variance."""
    rest: float
    """Variance in every other direction."""

    @classmethod
    def of(cls, documents: Floats, axes: int) -> Background:
        """Return the background of documents.

        Args:
            documents: (n, dim) float32, L2-normalised.
            axes: number of directions; fewer where there are fewer documents.
        """
        mean = documents.mean(0, dtype=np.float64)
        spread = documents.astype(np.float64) - mean
        values, vectors = np.linalg.eigh(spread.T @ spread / len(documents))  # ascending
        kept = min(axes, len(documents), documents.shape[1] - 1)
        rest = max(0.0, float(values[: len(values) - kept].mean()))
        surplus = np.sqrt(np.maximum(values[len(values) - kept :] - rest, 0))
        longest = vectors.T[len(values) - kept :] * surplus[:, None]
        return cls(mean.astype(np.float32), longest.astype(np.float32), rest)

    def __call__(self, queries: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of each query's similarities, (queries,) float32.

        Args:
            queries: (queries, dim) float32, L2-normalised.
        """
        variance = self.rest + np.square(queries @ self.axes.T).sum(1)
        return queries @ self.mean, np.maximum(np.sqrt(variance), LEAST_DEVIATION)


@dataclass(frozen=True)
class Direction:
    """The numbers for queries of one kind and documents of one kind."""

    on_cosine: float
    """Factor of the cosine, at least 0."""
    on_z: float
    """Factor of z, at least 0."""
    bias: float
    documents: int
    """Number of documents that the numbers were fitted with."""
    checked: Mapping[str, float] = field(default_factory=dict)
    """Figures at 0.5 on queries that the numbers were not fitted with, see `calibration_fit.checked`."""


@dataclass(frozen=True)
class Calibration:
    """The probabilities of one artifact's matches."""

    artifact: str
    """Id of the artifact whose vectors it is for."""
    dim: int
    """Size of the vectors."""
    absent: float
    """Share of queries for something that no document shows, as assumed by the fit."""
    directions: Mapping[tuple[str, str], Direction]
    """By the towers of query and document."""
    backgrounds: Mapping[str, Background]
    """By the tower of the documents."""

    def query(self, kind: str, vector: Floats, documents: int) -> dict[str, Line]:
        """Return the line from cosines to probabilities of one query, by the tower of the documents.

        Args:
            kind: the tower that encoded the query, 'clip-text' or 'clip-vision'.
            vector: (dim,) float32, L2-normalised.
            documents: number of documents in the index.
        """
        found = {}
        for (asked, tower), numbers in self.directions.items():
            if asked != kind:
                continue
            means, deviations = self.backgrounds[tower](vector[None])
            mean, deviation = float(means[0]), float(deviations[0])
            more = max(0.0, math.log(max(documents, 1) / numbers.documents))
            slope = numbers.on_cosine + numbers.on_z / deviation
            found[tower] = Line(slope, numbers.bias - numbers.on_z * mean / deviation - more)
        return found

    def to_json(self) -> str:
        """Return the calibration as JSON; the arrays are base64 of little-endian float32."""
        return json.dumps(
            {
                "format": FORMAT,
                "artifact": self.artifact,
                "dim": self.dim,
                "absent": self.absent,
                "directions": [
                    {
                        "query": query, "document": document, "on_cosine": each.on_cosine, "on_z": each.on_z,
                        "bias": each.bias, "documents": each.documents, "checked": dict(each.checked),
                    }
                    for (query, document), each in self.directions.items()
                ],
                "backgrounds": {
                    tower: {"mean": _packed(each.mean), "axes": _packed(each.axes), "rest": each.rest}
                    for tower, each in self.backgrounds.items()
                },
            },
            indent=1,
        )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """p = sigmoid(slope * cosine + bias), for one query and documents of one kind."""

    slope: float
    """Above 0."""
    bias: float

    def probabilities(self, cosines: Any) -> NDArray[np.float64]:
        """Return the probabilities of cosines, in (0, 1), in the same shape."""
        logits = self.slope * np.asarray(cosines, np.float64) + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -700, 700))))

    def lowest_cosine(self, probability: float) -> float:
        """Return the cosine that has a probability; -1 for 0, and 2, which none reaches, for 1."""
        if probability <= 0:
            return -1.0
        if probability >= 1:
            return 2.0
        return max(-1.0, (math.log(probability / (1 - probability)) - self.bias) / self.slope)


def parse_calibration(content: bytes, artifact: str, dim: int) -> Calibration:
    """Return the calibration in a file, which may come from anywhere.

    Args:
        content: at most MAX_BYTES.
        artifact: id of the artifact that the file belongs to.
        dim: size of its vectors.

    Raises:
        CorruptedArtifact: no calibration, one of another model, or one with numbers out of range.
    """
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"{len(content)} bytes")
        given = json.loads(content)
        if given["format"] != FORMAT:
            raise ValueError(f"format {given['format']!r:.40}")
        made_for, size = given["artifact"], given["dim"]
        if (made_for, size) != (artifact, dim):
            raise CorruptedArtifact(
                f"a calibration must be of its own artifact. Got one of {made_for!r:.40} with {size!r:.20} numbers a "
                f"vector, in {artifact} with {dim}. Scores of two models mean different things: tune again with "
                "eval_data."
            )
        backgrounds = {
            tower: Background(_unpacked(each["mean"], dim)[0], _unpacked(each["axes"], dim), _number(each["rest"], 0))
            for tower, each in given["backgrounds"].items()
        }
        directions = {}
        for each in given["directions"]:
            towers = each["query"], each["document"]
            if towers[0] not in TOWERS or towers[1] not in backgrounds or towers in directions:
                raise ValueError(f"towers {towers!r:.80}")
            directions[towers] = Direction(
                _number(each["on_cosine"], 0), _number(each["on_z"], 0), _number(each["bias"], -MAX_FACTOR),
                int(_number(each["documents"], 1, 1e12)),
                {str(name): _number(value, 0) for name, value in each["checked"].items()},
            )  # fmt: skip
            if not directions[towers].on_cosine + directions[towers].on_z > 0:
                raise ValueError("no factor above 0")
        return Calibration(artifact, dim, _number(given["absent"], 0, 1), directions, backgrounds)
    except CorruptedArtifact:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, binascii.Error) as error:
        raise CorruptedArtifact(
            f"the calibration of artifact {artifact} must be as a run wrote it. It is not: {error!r:.200}. Fetch the "
            "artifact again."
        ) from None


def _packed(values: Floats) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _unpacked(given: str, dim: int) -> Floats:
    """Return finite values of at most 1e6, (rows, dim) float32."""
    values = np.frombuffer(base64.b64decode(given, validate=True), "<f4").astype(np.float32)
    if values.size % dim or values.size > MAX_AXES * dim or not np.all(np.abs(values) <= MAX_FACTOR):  # NaN, too
        raise ValueError(f"an array of {values.size} numbers")
    return values.reshape(-1, dim)


def _number(given: Any, low: float, high: float = MAX_FACTOR) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise ValueError(f"{given!r:.40} must be a number in [{low}, {high}]")
    return float(given)
