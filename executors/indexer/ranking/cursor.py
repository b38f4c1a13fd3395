"""Cursors: pages of a search that stay in order while documents come and go.

Matches are in the order of their similarity, rounded to DIGITS, then of their ids. A cursor holds the last match of its
page, and the next page starts strictly after it: nothing comes twice, and what was indexed above it stays unseen. It is
signed, and holds for one collection, one query and one filter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.engines.engine import Filter, Hit

DIGITS = 6
# Hits that are read for one page: the matches of all pages before, this page, and some more.
MAX_DEPTH = 20_000
SLACK = 32
# Numbers of the query's vector in a cursor. Two encodings of one query differ in the last digits.
SKETCH = 32
SAME = 0.999


@dataclass(frozen=True, slots=True)
class Place:
    """The last match of a page."""

    score: float
    id: str
    seen: int
    """Matches on this page and those before."""


class Cursors:
    """Writes and reads cursors.

    Args:
        secret: signs them; another index refuses them.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"cursor " + secret.encode()).digest()

    def write(self, generation: str, query: NDArray[np.float32], condition: Filter | None, place: Place) -> str:
        """Return the cursor of a page.

        Args:
            generation: name of the collection, another one after it was dropped and filled again.
            query: (dim,) float32, L2-normalised.
            condition: filter of the search.
            place: last match of the page.
        """
        sketch = base64.b64encode(query[:SKETCH].astype("<f2").tobytes()).decode()
        held = [generation, _digest(condition), sketch, place.score, place.id, place.seen]
        body = base64.urlsafe_b64encode(json.dumps(held).encode()).decode()
        return f"{body}.{self._signature(body)}"

    def read(self, cursor: str, generation: str, query: NDArray[np.float32], condition: Filter | None) -> Place:
        """Return the place of a cursor.

        Raises:
            InvalidInput: it is not ours, or of another collection, query or filter.
        """
        body, _, signature = cursor.rpartition(".")
        if not body.isascii() or not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            raise _wrong("one that this index has written", "another text")
        try:
            made_of, digest, sketch, score, document_id, seen = json.loads(base64.urlsafe_b64decode(body))
            numbers = np.frombuffer(base64.b64decode(sketch), "<f2").astype(np.float32)
        except (ValueError, binascii.Error) as error:
            raise _wrong("one that this index has written", repr(error)) from None
        if made_of != generation:
            raise _wrong("of this collection", "the cursor of a collection that was dropped, or of another artifact")
        if digest != _digest(condition):
            raise _wrong("of this filter", "the cursor of another filter")
        if not _alike(numbers, query[:SKETCH]):
            raise _wrong("of this query", "the cursor of another query")
        return Place(float(score), str(document_id), int(seen))

    def _signature(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()[:32]


def page(search: Callable[[int], Sequence[Hit]], after: Place | None, limit: int) -> list[Hit]:
    """Return the next hits in the order of the cursors.

    Args:
        search: returns the given number of nearest hits, or all if there are fewer.
        after: place of the cursor; None for the first page.
        limit: maximum number of hits.

    Raises:
        InvalidInput: the page is too deep.
    """
    depth = (after.seen if after else 0) + limit + SLACK
    while True:
        if depth > MAX_DEPTH:
            raise InvalidInput(
                f"a cursor must stay within the best {MAX_DEPTH} matches. Got more. Narrow the search with a filter."
            )
        found = search(depth)
        ranked = sorted(((round(hit.score, DIGITS), hit.id) for hit in found), key=lambda hit: (-hit[0], hit[1]))
        whole = len(found) < depth
        if not whole:  # others may share the last score and be cut off
            ranked = [hit for hit in ranked if hit[0] > ranked[-1][0]]
        if after is not None:
            start = (-after.score, after.id)
            ranked = [hit for hit in ranked if (-hit[0], hit[1]) > start and hit[1] != after.id]
        if len(ranked) >= limit or whole:
            return [Hit(document_id, score) for score, document_id in ranked[:limit]]
        depth *= 2


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return one.shape == other.shape and (lengths == 0 or float(one @ other) >= SAME * lengths)


def _digest(condition: Any) -> str:
    return hashlib.sha256(json.dumps(condition, sort_keys=True).encode()).hexdigest()[:16]


def _wrong(expected: str, got: str) -> InvalidInput:
    return InvalidInput(f"cursor must be {expected}. Got {got}. Start again with the cursor '*'.")
