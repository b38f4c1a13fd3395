"""Every feature of the search as a naive loop over all documents, in float64."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Library:
    """The documents of an index.

    Args:
        ids: of the documents.
        vectors: (n, dim), one for each id.
        tags: likewise.
    """

    def __init__(self, ids: Sequence[str], vectors: NDArray[Any], tags: Sequence[Mapping[str, Any]]) -> None:
        self.ids, self.tags = list(ids), list(tags)
        self.vectors = np.stack([unit(vector) for vector in np.asarray(vectors, np.float64)])
        self.at = {name: position for position, name in enumerate(self.ids)}
        self._words: dict[str, list[list[str]]] = {}

    def best(
        self, query: Floats, passing: Callable[[Mapping[str, Any]], bool], without: Sequence[str] = ()
    ) -> list[str]:
        """Return the ids of all documents that pass, the most similar first."""
        cosines = self.vectors @ unit(query)
        kept = [i for i, name in enumerate(self.ids) if passing(self.tags[i]) and name not in without]
        return [self.ids[i] for i in sorted(kept, key=lambda i: (-cosines[i], self.ids[i]))]

    def words(self, field: str) -> list[list[str]]:
        """Return the words of a field of each document; codes count as a whole, too."""
        if field not in self._words:
            self._words[field] = [words(tags[field]) for tags in self.tags]
        return self._words[field]


def unit(vector: Floats) -> Floats:
    return np.asarray(vector / math.sqrt(float((vector**2).sum())))


def words(text: str) -> list[str]:
    """Return the words of an ASCII text."""
    plain = text.casefold()
    codes = [code for code in re.findall(r"\w+(?:[-/]\w+)+", plain) if any(letter.isdigit() for letter in code)]
    return re.findall(r"\w+", plain) + codes


def like(library: Library, query: Floats, positives: Sequence[str], negatives: Sequence[str]) -> Floats:
    """Return the direction of a query with examples."""
    total = unit(query).copy()
    for name in positives:
        total += library.vectors[library.at[name]] / len(positives)
    for name in negatives:
        total -= 0.5 * library.vectors[library.at[name]] / len(negatives)
    return unit(total)


def bm25(library: Library, field: str, query: Sequence[str]) -> list[float]:
    """Return the BM25 score of each document."""
    texts = library.words(field)
    mean = sum(map(len, texts)) / len(texts)
    scores = [0.0] * len(texts)
    for word in query:
        having = sum(word in text for text in texts)
        idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for i, text in enumerate(texts):
            tf = text.count(word)
            scores[i] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(text) / mean))
    return scores


def hybrid(
    library: Library, near: Sequence[str], text: str, fields: Sequence[str], weight: float, depth: int
) -> list[str]:
    """Return ids by reciprocal ranks of `near`, the documents that pass, and of BM25."""
    scores = [sum(values) for values in zip(*(bm25(library, field, words(text)) for field in fields), strict=True)]
    found = sorted((name for name in near if scores[library.at[name]] > 0), key=lambda n: (-scores[library.at[n]], n))
    fused: dict[str, float] = {}
    for share, ranked in ((1 - weight, near[:depth]), (weight, found[:depth])):
        for rank, name in enumerate(ranked, 1):
            fused[name] = fused.get(name, 0.0) + share / (60 + rank)
    return sorted(fused, key=lambda name: (-fused[name], name))


def diverse(library: Library, query: Floats, near: Sequence[str], diversity: float, count: int) -> list[str]:
    """Return ids by maximal marginal relevance among the candidates, with both sides standardised."""
    vectors = [library.vectors[library.at[name]] for name in near]
    relevance = np.array([vector @ unit(query) for vector in vectors])
    pairs = np.array([a @ b for i, a in enumerate(vectors) for j, b in enumerate(vectors) if i != j])
    chosen = [0]
    while len(chosen) < count:
        gains = {}
        for i in range(len(near)):
            if i not in chosen:
                nearest = max((vectors[i] @ vectors[j] - pairs.mean()) / pairs.std() for j in chosen)
                wanted = (relevance[i] - relevance.mean()) / relevance.std()
                gains[i] = (1 - diversity) * wanted - diversity * nearest
        chosen.append(max(gains, key=lambda i: gains[i]))
    return [near[i] for i in chosen]


def tidy(library: Library, near: Sequence[str], threshold: float, count: int) -> tuple[list[str], int]:
    """Return ids without near-duplicates of better ones, and the number of those hidden among the candidates."""
    shown: list[str] = []
    hidden = 0
    for name in near:
        if any(library.vectors[library.at[name]] @ library.vectors[library.at[other]] >= threshold for other in shown):
            hidden += 1
        elif len(shown) < count:
            shown.append(name)
    return shown, hidden


def rounded(library: Library, query: Floats, near: Sequence[str]) -> list[str]:
    """Return ids by cosines of six digits; equal ones by their ids, as cursors have them."""
    return sorted(near, key=lambda name: (-round(float(library.vectors[library.at[name]] @ unit(query)), 6), name))


def grouped(library: Library, near: Sequence[str], tag: str, count: int, size: int) -> list[str]:
    """Return ids of the best groups."""
    groups: dict[Any, list[str]] = {}
    for name in near:
        groups.setdefault(library.tags[library.at[name]][tag], []).append(name)
    return [name for members in list(groups.values())[:count] for name in members[:size]]


def ordered(library: Library, near: Sequence[str], tag: str, descending: bool) -> list[str]:
    """Return the candidates in the order of a tag's numbers."""
    sign = -1 if descending else 1
    return sorted(near, key=lambda name: sign * library.tags[library.at[name]][tag])


def counts(library: Library, near: Sequence[str], tag: str, count: int) -> list[dict[str, Any]]:
    """Return the most frequent values of a tag among the documents that pass."""
    found = Counter(library.tags[library.at[name]][tag] for name in near)
    best = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:count]
    return [{"value": value, "count": number} for value, number in best]


def ranges(library: Library, near: Sequence[str], tag: str, edges: Sequence[float]) -> list[int]:
    """Return how many documents are below the first edge, between each two, and from the last on."""
    values = [library.tags[library.at[name]][tag] for name in near]
    bounds = [-math.inf, *edges, math.inf]
    return [sum(low <= value < high for value in values) for low, high in pairwise(bounds)]
