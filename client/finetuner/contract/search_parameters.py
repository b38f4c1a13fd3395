"""The parameters of a search beyond the nearest vectors: examples, diversity, groups, order, cursor, hybrid, cut-off.

The client, the gateway and the indexer read them with this class, so each refuses the same values in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..exceptions import InvalidInput
from . import checks

MAX_EXAMPLES = 256
MAX_CANDIDATES = 5000
MAX_DIVERSE = 1000  # candidates of `diversity`, which compares all of them with one another
MAX_MATCHES = 1000  # of one query
MAX_GROUP = 100
MAX_FACETS = 16
MAX_FACET_VALUES = 1000
MAX_EDGES = 64
MAX_FIELDS = 16
MAX_NAME = 512
MAX_CURSOR = 4096
FIRST_PAGE = "*"
"""The cursor of the first page."""
TEXT_FIELD = "text"
"""Name of a document's own text, and of its chunks' texts, among the fields of `hybrid`."""

FEATURES = (
    "positives", "negatives", "diversity", "hide_duplicates", "group_by", "group_size", "facets", "order_by", "cursor",
    "hybrid", "explain", "candidates", "min_probability",
)  # fmt: skip
"""Names of the parameters. A search without any of them is a plain one."""
REORDERED = ("diversity", "hide_duplicates", "group_by", "order_by", "hybrid", "candidates")
"""Parameters that a cursor excludes: their pages depend on all the pages before."""


@dataclass(frozen=True, slots=True)
class Hybrid:
    """Words beside vectors: BM25 and cosine similarity, fused by their ranks."""

    fields: tuple[str, ...]
    """TEXT_FIELD, and names of tags with texts."""
    weight: float | None = None
    """Weight of the words, 0 to 1; the vectors have the rest. None lets the query decide: see the indexer's README."""


@dataclass(frozen=True, slots=True)
class Facet:
    """Counts of the documents that pass the filter, by one tag."""

    tag: str
    """Name of the tag, as in filters."""
    values: int = 0
    """Maximum number of values to count, most frequent first; 0 for ranges."""
    edges: tuple[float, ...] = ()
    """Borders of ranges: n borders make n + 1 ranges, each with its lower border and without its upper one."""


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """The checked parameters of one search request; they apply to all its queries.

    Raises:
        InvalidInput: `read` was given a value that is not allowed, or two parameters that exclude each other.
    """

    positives: tuple[str, ...] = ()
    """Ids of indexed documents to look like."""
    negatives: tuple[str, ...] = ()
    """Ids of indexed documents to look unlike."""
    diversity: float | None = None
    """Share of variety against similarity to the query, 0 to 1 (maximal marginal relevance)."""
    hide_duplicates: float | None = None
    """Hide a match whose cosine similarity with a better match is at least this, 0 to 1."""
    group_by: str | None = None
    """Name of a tag: `limit` counts its values."""
    group_size: int = 1
    """Matches for each value of `group_by`."""
    facets: tuple[Facet, ...] = ()
    order_by: str | None = None
    """Name of a tag that sorts the candidates; with '-' before it, from the highest value."""
    cursor: str | None = None
    """FIRST_PAGE, or the cursor of the previous answer."""
    hybrid: Hybrid | None = None
    explain: bool = False
    """Whether matches carry the rank and the score of each part of `hybrid`."""
    candidates: int | None = None
    """Number of best matches from which the others choose; None for a number that follows from `limit`."""
    min_probability: float | None = None
    """Lowest probability of a match, 0 to 1, by the calibration of the artifact; 0 leaves nothing out."""

    @classmethod
    def read(cls, given: Mapping[str, Any], limit: int = 20, offset: int = 0) -> SearchParameters:
        """Return the checked parameters among those of a request.

        Args:
            given: the parameters; other names are ignored, and None means missing.
            limit: checked number of matches.
            offset: checked number of matches to skip.
        """
        held = {name: given[name] for name in FEATURES if given.get(name) is not None}
        made = cls(
            positives=_ids("positives", held.get("positives", ())),
            negatives=_ids("negatives", held.get("negatives", ())),
            diversity=_number("diversity", held.get("diversity")),
            hide_duplicates=_number("hide_duplicates", held.get("hide_duplicates")),
            group_by=_name("group_by", held.get("group_by")),
            group_size=checks.whole("group_size", held.get("group_size", 1), 1, MAX_GROUP),
            facets=_facets(held.get("facets", {})),
            order_by=_name("order_by", held.get("order_by")),
            cursor=_cursor(held.get("cursor")),
            hybrid=_hybrid(held.get("hybrid")),
            explain=checks.flag("explain", held.get("explain", False)),
            candidates=checks.whole("candidates", held["candidates"], 1, MAX_CANDIDATES)
            if "candidates" in held
            else None,
            min_probability=_number("min_probability", held.get("min_probability")),
        )
        made._check(held, limit, offset)
        return made

    def _check(self, held: Mapping[str, Any], limit: int, offset: int) -> None:
        """Refuse parameters that would have no effect, or exclude each other."""
        if both := sorted(set(self.positives) & set(self.negatives)):
            raise InvalidInput(f"an id must be in positives or in negatives. Got {both[0]!r:.80} in both. Drop one.")
        if "group_size" in held and self.group_by is None:
            raise InvalidInput("group_size must come with group_by. Got no group_by. Name a tag, or leave it out.")
        if self.explain and self.hybrid is None:
            raise InvalidInput("explain must come with hybrid, whose parts it shows. Got no hybrid. Leave it out.")
        if self.order_by is not None and self.diversity is not None:
            raise InvalidInput("order_by and diversity both set the order. Got both. Leave one out.")
        if self.group_by is not None and limit * self.group_size > MAX_MATCHES:
            raise InvalidInput(
                f"limit times group_size must be {MAX_MATCHES} at most. Got {limit} times {self.group_size}. Lower one."
            )
        most = MAX_CANDIDATES if self.diversity is None else MAX_DIVERSE
        if any(held.get(name) is not None for name in REORDERED) and max(offset + limit, self.candidates or 0) > most:
            raise InvalidInput(
                f"offset + limit, and candidates, must be {most} at most with {', '.join(REORDERED[:-1])} "
                f"({MAX_DIVERSE} with diversity). Got {offset} + {limit} and {self.candidates}. Lower them."
            )
        if self.candidates is not None and not any(held.get(name) is not None for name in REORDERED[:-1]):
            raise InvalidInput(
                f"candidates must come with one of {', '.join(REORDERED[:-1])}, which choose among them. Got none. "
                "Leave it out."
            )
        if self.min_probability is not None and (self.positives or self.negatives or self.hybrid):
            other = "hybrid" if self.hybrid else "positives" if self.positives else "negatives"
            raise InvalidInput(
                f"min_probability must come without {other}: the probability is calibrated for the similarity of one "
                f"text or one image alone. Got both. Use score_threshold, or leave {other} out."
            )
        if self.cursor is not None:
            excluded = [name for name in REORDERED if held.get(name) is not None] + (["offset"] if offset else [])
            if excluded:
                raise InvalidInput(
                    f"cursor must come without {', '.join((*REORDERED, 'offset'))}: their pages depend on the earlier "
                    f"ones. Got {', '.join(excluded)}. Use offset and limit with these, without a cursor."
                )


def asks_more(given: Mapping[str, Any]) -> bool:
    """Return whether a request has one of the FEATURES."""
    return any(name in given and given[name] is not None for name in FEATURES)


def _ids(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InvalidInput(f"{name} must be a list of ids of indexed documents. Got {value!r:.80}. Write a list.")
    if len(value) > MAX_EXAMPLES:
        raise InvalidInput(f"{name} must have {MAX_EXAMPLES} entries at most. Got {len(value)}. Leave some out.")
    for entry in value:
        if not isinstance(entry, str) or not entry:
            raise InvalidInput(f"{name} must be ids, strings that are not empty. Got {entry!r:.80}. Change it.")
    return tuple(dict.fromkeys(value))


def _number(name: str, value: object) -> float | None:
    return None if value is None else checks.number(name, value, 0, 1)


def _name(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.removeprefix("-") or len(value) > MAX_NAME:
        raise InvalidInput(f"{name} must be the name of a tag, 1 to {MAX_NAME} characters. Got {value!r:.80}.")
    return value


def _facets(value: object) -> tuple[Facet, ...]:
    if not isinstance(value, Mapping):
        raise InvalidInput(
            f"facets must map tags to a number of values, or to borders of ranges. Got {value!r:.80}. "
            "Write {'colour': 10, 'price': [10, 50]}, for example."
        )
    if len(value) > MAX_FACETS:
        raise InvalidInput(f"facets must be {MAX_FACETS} at most. Got {len(value)}. Split the request.")
    return tuple(_facet(tag, asked) for tag, asked in value.items())


def _facet(tag: object, asked: object) -> Facet:
    name = _name("a facet", tag) or ""
    if not isinstance(asked, list | tuple):
        return Facet(name, checks.whole(f"facet {name!r:.80}", asked, 1, MAX_FACET_VALUES))
    if not 1 <= len(asked) <= MAX_EDGES:
        raise InvalidInput(f"facet {name!r:.80} must have 1 to {MAX_EDGES} borders. Got {len(asked)}. Change them.")
    edges = tuple(checks.number(f"facet {name!r:.80}", edge, -1e300, 1e300) for edge in asked)
    if any(not math.isfinite(edge) for edge in edges) or any(a >= b for a, b in pairwise(edges)):
        raise InvalidInput(f"facet {name!r:.80} must have rising borders. Got {list(edges)!r:.80}. Sort them.")
    return Facet(name, edges=edges)


def _cursor(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_CURSOR:
        raise InvalidInput(
            f"cursor must be {FIRST_PAGE!r} or the cursor of the previous answer. Got {value!r:.80}. Start anew."
        )
    return value


def _hybrid(value: object) -> Hybrid | None:
    if value is None:
        return None
    given = checks.options("hybrid", value, {"fields": (), "weight": None})
    fields = given.get("fields")
    if not isinstance(fields, list | tuple) or not 1 <= len(fields) <= MAX_FIELDS:
        raise InvalidInput(
            f"hybrid must list 1 to {MAX_FIELDS} `fields`: {TEXT_FIELD!r} or tags with texts. Got {fields!r:.80}."
        )
    names = dict.fromkeys(_name("a field of hybrid", field) or "" for field in fields)
    if "" in names:
        raise InvalidInput("a field of hybrid must be the name of a tag. Got null. Leave it out.")
    return Hybrid(tuple(names), _number("hybrid's weight", given.get("weight")))
