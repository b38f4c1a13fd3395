"""Scores of pairs: all pairs of a dataset have one, or none has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..contract.wire import SCORE_TAG
from ..exceptions import InvalidInput

if TYPE_CHECKING:
    from docarray import Document

    from .pairs import Pair

Item = TypeVar("Item")


def scored_alike(items: Iterable[Item], has_score: Callable[[Item], bool], field: str) -> Iterator[Item]:
    """Yield the items. After the last one, check that all have a score, or none.

    Args:
        items: pairs, or documents.
        has_score: tells whether an item has a score.
        field: argument that holds the items, for messages.

    Raises:
        InvalidInput: some have a score and others do not; the message has both counts.
    """
    counts = {True: 0, False: 0}
    for item in items:
        counts[has_score(item)] += 1
        yield item
    if all(counts.values()):
        raise InvalidInput(
            f"{field} must have a score for each pair, or for none. Got {counts[True]} pairs with the tag "
            f"{SCORE_TAG!r} and {counts[False]} without. Add the missing scores, or remove them all."
        )


def document_has_score(document: Document) -> bool:
    """Return whether a document has the tag of a score."""
    return SCORE_TAG in document.tags


def pair_has_score(pair: Pair) -> bool:
    """Return whether a pair has a score."""
    return pair.score is not None
