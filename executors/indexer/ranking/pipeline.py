"""A search beyond the nearest vectors, one query at a time. It works above the engines, on every engine alike.

1. the query's direction              examples.py
2. the best candidates                the engine's nearest, likely ones (cut_off.py), or fused with BM25 (fusion.py)
3. duplicates hidden, then the order  diversity.py, tags.py
4. groups, then the page              tags.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.contract.search_parameters import FIRST_PAGE, MAX_CANDIDATES, MAX_DIVERSE, TEXT_FIELD, SearchParameters
from finetuner.contract.wire import ARTIFACT_TAG, EXAMPLE_TAG
from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.engines.engine import TEXT, Collection, Filter, Hit, SearchOptions, point_id
from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.ranking import diversity, fusion
from finetuner.executors.indexer.ranking.cursor import Cursors, Place, page
from finetuner.executors.indexer.ranking.cut_off import Probabilities
from finetuner.executors.indexer.ranking.examples import aimed, stored
from finetuner.executors.indexer.ranking.tags import (
    count_facet,
    grouped,
    key_of,
    require_tag,
    sorted_by,
    tags_of,
    value_of,
)  # fmt: skip
from finetuner.executors.indexer.ranking.texts import Texts
from finetuner.executors.indexer.ranking.words import is_code, words
from finetuner.executors.indexer.retrieval.vectors import artifact_of, check_size, vector_of

# Candidates without `candidates`: this many for each wanted match, and at least so many.
CANDIDATES_PER_MATCH, FEWEST_CANDIDATES = 5, 100
# Of `order_by`, which sorts all of them.
SORTED_CANDIDATES = 1000
# Weight of the words without `weight`: for a query with a code that at most RARE documents have, and for any other.
CODE_WEIGHT, WORD_WEIGHT, RARE = 0.7, 0.1, 10
# Names of scores in a match.
COSINE, BM25, RRF, HIDDEN = "cosine", "bm25", "rrf", "hidden"
RANK = "_rank"


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one query."""

    hits: list[Hit]
    """Each with its cosine similarity, in the order of the search."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Further scores by id, then by name."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the answer says beside its matches: cursor, hidden, complete, weight."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Candidates, best first."""

    ids: list[str]
    relevance: dict[str, float]
    """What orders them."""
    scores: dict[str, dict[str, float]]
    full: bool
    """Whether there may be more."""


class Pipeline:
    """Searches with `SearchParameters`.

    Args:
        index: of the vectors and documents.
        texts: words of the documents.
        cursors: of this index.
        probabilities: of its matches.
    """

    def __init__(self, index: Index, texts: Texts, cursors: Cursors, probabilities: Probabilities) -> None:
        self._index = index
        self._probabilities = probabilities
        self._texts = texts
        self._cursors = cursors

    def check(self, asked: SearchParameters) -> SearchParameters:
        """Return the parameters with plain names of tags.

        Raises:
            InvalidInput: a tag that no document has, or a field of `hybrid` without texts.
        """
        known, made = self._index.fields, asked
        if asked.group_by is not None:
            made = replace(made, group_by=require_tag(known, "group_by", asked.group_by))
        if asked.order_by is not None:
            sign = "-" if asked.order_by.startswith("-") else ""
            made = replace(made, order_by=sign + require_tag(known, "order_by", asked.order_by.removeprefix("-")))
        if asked.hybrid is not None:
            fields = [name if name == TEXT_FIELD else self._text_field(name) for name in asked.hybrid.fields]
            made = replace(made, hybrid=replace(asked.hybrid, fields=tuple(dict.fromkeys(fields))))
        return made

    def facets(self, artifact: str, asked: SearchParameters, condition: Filter | None) -> dict[str, Any]:
        """Return the counts of each facet among the artifact's documents that pass the filter."""
        collection, known = self._index.collection(artifact), self._index.fields
        return {facet.tag: count_facet(collection, known, facet, condition) for facet in asked.facets}

    def search(
        self, query: Document, artifact: str, options: SearchOptions, asked: SearchParameters, kind: str = ""
    ) -> Found:
        """Return the answer to one query.

        Args:
            query: with embedding, or chunks, or neither if there are positives; changed in place.
            artifact: of a query without a vector.
            options: of the plain search.
            asked: as `check` returns them.
            kind: tower that encoded the query; '' where it is no single text or image.

        Raises:
            FinetunerError: the query's error.
        """
        text = [part.text for part in (query, *query.chunks) if part.text and EXAMPLE_TAG not in part.tags]
        self._aim(query, artifact, asked)
        artifact, vector = artifact_of(query), vector_of(query)
        collection = self._index.collection(artifact)
        check_size(vector, collection.dim, artifact)
        if asked.min_probability is not None:
            collection = self._probabilities.cut(collection, artifact, kind, vector, asked.min_probability)
        options = replace(options, filter=_without((*asked.positives, *asked.negatives), options.filter))
        if asked.cursor is not None:
            return self._page(collection, artifact, vector, options, asked.cursor)
        if not (asked.hybrid or asked.diversity is not None or asked.hide_duplicates is not None
                or asked.group_by or asked.order_by):  # fmt: skip
            return Found(collection.search(vector[None], options)[0])
        return self._choose(collection, vector, text, options, asked)

    # Candidates

    def _choose(
        self, collection: Collection, vector: NDArray[np.float32], text: Sequence[str], options: SearchOptions,
        asked: SearchParameters,
    ) -> Found:  # fmt: skip
        """Return the page chosen among the candidates; read more candidates while the page is not full."""
        wanted = options.offset + options.limit
        most = MAX_DIVERSE if asked.diversity is not None else MAX_CANDIDATES
        depth = asked.candidates or max(FEWEST_CANDIDATES, CANDIDATES_PER_MATCH * wanted)
        if asked.order_by is not None and asked.candidates is None:
            depth = SORTED_CANDIDATES
        depth = min(depth, most)
        query, weight = self._words(text, asked)
        while True:
            ranked = self._candidates(collection, vector, query, weight, replace(options, limit=depth, offset=0), asked)
            ids, hidden = self._tidy(collection, ranked, wanted, asked)
            groups = len(ids) if asked.group_by is None else self._groups_in(ids, asked)
            if groups >= wanted or not ranked.full or depth >= most or asked.candidates is not None:
                break
            depth = min(4 * depth, most)
        ids = self._paged(ids, options, asked)
        for document_id in ids:
            if document_id in hidden:
                ranked.scores[document_id][HIDDEN] = float(hidden[document_id])
        report: dict[str, Any] = {"complete": groups >= wanted or not ranked.full}
        if asked.hide_duplicates is not None:
            report["hidden"] = sum(hidden.get(document_id, 0) for document_id in ids)
        if weight is not None:
            report["weight"] = weight
        hits = [Hit(document_id, ranked.scores[document_id].pop(COSINE)) for document_id in ids]
        return Found(hits, {hit.id: ranked.scores[hit.id] for hit in hits}, report)

    def _candidates(
        self, collection: Collection, vector: NDArray[np.float32], query: Sequence[str], weight: float | None,
        options: SearchOptions, asked: SearchParameters,
    ) -> _Ranked:  # fmt: skip
        nearest = collection.search(vector[None], options)[0]
        cosine = {hit.id: hit.score for hit in nearest}
        full = len(nearest) >= options.limit
        if asked.hybrid is None or weight is None:
            return _Ranked(list(cosine), cosine, {key: {COSINE: score} for key, score in cosine.items()}, full)
        bm25 = self._best_words(collection, query, options, asked.hybrid.fields)
        fused = fusion.fuse([(1 - weight, list(cosine)), (weight, list(bm25))])
        missing = [key for key in fused if key not in cosine]
        known: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(missing), SORTED_CANDIDATES):
            known |= collection.get(missing[start : start + SORTED_CANDIDATES])
        near = cosine | {key: float(np.clip(found @ vector, -1, 1)) for key, found in known.items()}
        fused = {key: score for key, score in fused.items() if key in near}
        if (lowest := options.score_threshold) is not None:
            fused = {key: score for key, score in fused.items() if near[key] >= lowest}
        scores: dict[str, dict[str, float]] = {key: {COSINE: near[key]} for key in fused}
        if asked.explain:
            places = {COSINE: _places(cosine), BM25: _places(bm25)}
            for key, shown in scores.items():
                shown[RRF] = fused[key]
                shown |= {BM25: bm25[key]} if key in bm25 else {}
                shown |= {name + RANK: float(place[key]) for name, place in places.items() if key in place}
        kept = list(fused)[: options.limit]
        return _Ranked(kept, fused, scores, full or len(fused) > options.limit or len(bm25) >= options.limit)

    def _best_words(
        self, collection: Collection, query: Sequence[str], options: SearchOptions, fields: Sequence[str]
    ) -> dict[str, float]:
        """Return the best BM25 scores among the collection's documents that pass the filter, best first."""
        ranked = fusion.ordered(self._texts.scores(fields, query))
        ids = list(ranked)
        found: dict[str, float] = {}
        for start in range(0, len(ids), SORTED_CANDIDATES):
            some = ids[start : start + SORTED_CANDIDATES]
            having: dict[str, Any] = {"has_id": [point_id(each) for each in some]}
            condition = {"must": [having, *([] if options.filter is None else [options.filter])]}
            points, _ = collection.scroll(None, len(some), condition, vectors=False)
            passing = {point.id for point in points}
            found |= {each: ranked[each] for each in some if each in passing}
            if len(found) >= options.limit:
                break
        return dict(list(found.items())[: options.limit])

    def _words(self, text: Sequence[str], asked: SearchParameters) -> tuple[list[str], float | None]:
        """Return the query's words and their weight, None without `hybrid`.

        Without a weight of the caller's, the query decides. Where documents have one of its codes, only its codes
        count: beside other words, reciprocal ranks would let documents with these alone pass those with the code.

        Raises:
            InvalidInput: the query has no text.
        """
        if asked.hybrid is None:
            return [], None
        query = [word for each in text for word in words(each)]
        if not query:
            raise InvalidInput("hybrid must come with a query that has words. Got none. Add a text, or leave it out.")
        if asked.hybrid.weight is not None:
            return query, asked.hybrid.weight
        codes = {word for word in query if is_code(word)}
        rare = [word for word in sorted(codes) if 0 < self._texts.frequency(asked.hybrid.fields, word) <= RARE]
        return (rare, CODE_WEIGHT) if rare else (query, WORD_WEIGHT)

    # Order and groups

    def _tidy(
        self, collection: Collection, ranked: _Ranked, wanted: int, asked: SearchParameters
    ) -> tuple[list[str], dict[str, int]]:
        """Return ids without near-duplicates in their final order, and the number that each of them hides."""
        ids, hidden = ranked.ids, {}
        if asked.hide_duplicates is not None or asked.diversity is not None:
            ids, vectors = _vectors(collection, ids)
        if asked.hide_duplicates is not None:
            # groups and another order may need every one that is left
            count = len(ids) if asked.group_by or asked.order_by or asked.diversity is not None else wanted
            shown = diversity.without_duplicates(vectors, asked.hide_duplicates, count)
            hidden = {ids[position]: number for position, number in shown.items()}
            ids, vectors = [ids[position] for position in shown], vectors[list(shown)]
        if asked.diversity is not None:
            relevance = np.array([ranked.relevance[document_id] for document_id in ids])
            count = len(ids) if asked.group_by else wanted
            ids = [ids[position] for position in diversity.diverse(relevance, vectors, asked.diversity, count)]
        if asked.order_by is not None:
            values = self._values(ids, asked.order_by.removeprefix("-"))
            ids = sorted_by(ids, values, descending=asked.order_by.startswith("-"))
        return ids, hidden

    def _groups_in(self, ids: Sequence[str], asked: SearchParameters) -> int:
        assert asked.group_by is not None
        return len(grouped(ids, self._keys(ids, asked.group_by), len(ids), 1))

    def _paged(self, ids: list[str], options: SearchOptions, asked: SearchParameters) -> list[str]:
        wanted = options.offset + options.limit
        if asked.group_by is None:
            return ids[options.offset : wanted]
        keys = self._keys(ids, asked.group_by)
        before = set(grouped(ids, keys, options.offset, MAX_CANDIDATES))
        return [each for each in grouped(ids, keys, wanted, asked.group_size) if each not in before]

    def _keys(self, ids: Sequence[str], tag: str) -> list[Any]:
        return [key_of(value) for value in self._values(ids, tag)]

    def _values(self, ids: Sequence[str], tag: str) -> list[Any]:
        tags = tags_of(self._index.documents, ids)
        return [value_of(tags.get(document_id, {}), tag) for document_id in ids]

    # Queries and pages

    def _aim(self, query: Document, artifact: str, asked: SearchParameters) -> None:
        sides = []
        for name, ids in (("positives", asked.positives), ("negatives", asked.negatives)):
            sides.append(stored(self._index.collection(artifact), artifact, name, ids) if ids else [])
        if any(sides) and not query.chunks and query.embedding is None:
            query.tags[ARTIFACT_TAG] = artifact
        aimed(query, *sides)

    def _page(
        self, collection: Collection, artifact: str, vector: NDArray[np.float32], options: SearchOptions, cursor: str
    ) -> Found:
        generation = self._index.collections.generation(artifact)
        after = None
        if cursor != FIRST_PAGE:
            after = self._cursors.read(cursor, generation, vector, options.filter)
        hits = page(lambda n: collection.search(vector[None], replace(options, limit=n))[0], after, options.limit)
        if len(hits) < options.limit:
            return Found(hits)
        place = Place(hits[-1].score, hits[-1].id, (after.seen if after else 0) + len(hits))
        return Found(hits, report={"cursor": self._cursors.write(generation, vector, options.filter, place)})

    def _text_field(self, name: str) -> str:
        plain = require_tag(self._index.fields, "a field of hybrid", name)
        if TEXT not in (kinds := self._index.fields.kinds(name)) and "" not in kinds:
            raise InvalidInput(
                f"a field of hybrid must be {TEXT_FIELD!r} or a tag with texts. Got {name!r:.80}, whose values are "
                f"of the kind {' and '.join(sorted(kinds))}. Leave it out."
            )
        return plain


def _places(ids: Mapping[str, float]) -> dict[str, int]:
    return {document_id: rank for rank, document_id in enumerate(ids, 1)}


def _vectors(collection: Collection, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
    """Return the ids that are still there, and their vectors, (n, dim) float32."""
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(ids), SORTED_CANDIDATES):
        found |= collection.get(ids[start : start + SORTED_CANDIDATES])
    kept = [document_id for document_id in ids if document_id in found]
    return kept, np.stack([found[each] for each in kept]) if kept else np.zeros((0, collection.dim), np.float32)


def _without(ids: Sequence[str], condition: Filter | None) -> Filter | None:
    """Return a filter that leaves the examples out."""
    if not ids:
        return condition
    left_out: dict[str, Any] = {"must_not": [{"has_id": [point_id(document_id) for document_id in ids]}]}
    return left_out if condition is None else {"must": [condition, left_out]}
