"""Scores the index of a Flow on queries with judged documents, through its search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from ...contract import wire
from ...contract.checks import flag, text, whole
from ...contract.search_parameters import SearchParameters
from ...exceptions import InvalidInput
from ...metrics import graded_ndcg, recall_at_k
from ...progress import bar
from ...sources.judgements.judged import JudgedQuery, read_judged
from ..session import connection

QUERIES_AT_ONCE = 64
IDS_AT_ONCE = 500
MAX_LIMIT = 1000
MAX_NAMED = 1000  # ids that are not indexed


@dataclass(frozen=True)
class QueryScore:
    """The result of one query."""

    query: str
    """Its text."""
    recall: float
    """Share of its relevant documents among the first `limit` matches, in [0, 1]."""
    ndcg: float
    """nDCG of the first `limit` matches, with the grades as linear gains, in [0, 1]."""
    relevant: int
    """Number of its relevant documents."""
    missed: tuple[str, ...]
    """Ids of relevant documents that were not found, the best first."""
    found: tuple[str, ...]
    """Ids of the matches, best first."""


@dataclass(frozen=True)
class QueryScores:
    """The scores of an index on queries."""

    metrics: dict[str, float]
    """recall_at_K and ndcg_at_K, means over the queries, with `limit` as K."""
    queries: tuple[QueryScore, ...]
    """Worst first, by nDCG, then by recall."""
    without_relevant: int
    """Number of queries whose grades are all 0. They are not scored."""
    not_indexed: int
    """Number of relevant documents that are not indexed with the artifact. They count as not found."""
    not_indexed_ids: tuple[str, ...]
    """Ids of the first 1000 of them."""
    artifact: str
    """Artifact or backbone that encoded the queries."""


def evaluate_queries(
    queries: str | PathLike[str] | Mapping[str, Mapping[str, float]],
    qrels: str | PathLike[str] | None = None,
    *,
    limit: int = 10,
    artifact: str = "live",
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
    exact: bool = False,
    min_probability: float | None = None,
) -> QueryScores:
    """Score the live index on your own queries: recall and nDCG, and the worst queries first.

    Args:
        queries: a CSV with the columns query, document and relevance; a file of queries with `qrels`: BEIR's jsonl, or
            TREC topics (id, tab, text); a folder in BEIR's form; or {query: {document id: grade}}.
        qrels: file of judgements: TREC's (query 0 document grade) or BEIR's tsv. A grade above 0 is relevant.
        limit: K of both metrics, 1 to 1000.
        artifact: artifact id, alias or backbone that the documents were indexed with.
        filter: condition on the tags of matches, as for `search`.
        exact: compare with every vector instead of searching the graph.
        min_probability: as for `search`.

    Raises:
        InvalidInput: a file with a wrong line, named by its number, or no query with a relevant document.
        FinetunerError: the error of the first refused query.
    """
    whole("limit", limit, 1, MAX_LIMIT)
    text("artifact", artifact)
    flag("exact", exact)
    if min_probability is not None:
        SearchParameters.read({"min_probability": min_probability})
    judged = read_judged(queries, qrels)
    asked = [query for query in judged if query.relevant]
    if not asked:
        raise InvalidInput(
            f"queries must have documents with a grade above 0. Got {len(judged)} queries without any. Add judgements."
        )
    optional = {"filter": filter, "min_probability": min_probability}
    parameters = {"limit": limit, "artifact": artifact, "exact": exact, "return_content": False}
    parameters |= {name: value for name, value in optional.items() if value is not None}
    scores: list[QueryScore] = []
    made_by = artifact
    with bar("Searching", len(asked)) as advance:
        for start in range(0, len(asked), QUERIES_AT_ONCE):
            some = asked[start : start + QUERIES_AT_ONCE]
            found, made_by = _search([query.text for query in some], parameters)
            scores += [_score(query, ids, limit) for query, ids in zip(some, found, strict=True)]
            advance(len(some))
    missed = dict.fromkeys(document for score in scores for document in score.missed)
    lost = _not_indexed(list(missed), artifact)
    return QueryScores(
        {
            f"recall_at_{limit}": sum(score.recall for score in scores) / len(scores),
            f"ndcg_at_{limit}": sum(score.ndcg for score in scores) / len(scores),
        },
        tuple(sorted(scores, key=lambda score: (score.ndcg, score.recall, score.query))),
        len(judged) - len(asked),
        len(lost),
        tuple(lost[:MAX_NAMED]),
        made_by,
    )


def _search(texts: Sequence[str], parameters: Mapping[str, Any]) -> tuple[list[list[str]], str]:
    """Return the ids that each query finds, best first, and the artifact that encoded the queries."""
    from docarray import Document, DocumentArray

    sent = DocumentArray(Document(id=str(number), text=each) for number, each in enumerate(texts))
    answered = {document.id: document for document in connection().post(wire.SEARCH, sent, dict(parameters))}
    found = []
    for number in range(len(texts)):
        document = answered[str(number)]
        if (error := wire.error_of(document)) is not None:
            raise error
        found.append([match.id for match in document.matches])
    return found, str(answered["0"].tags.get(wire.ARTIFACT_TAG, parameters["artifact"]))


def _score(query: JudgedQuery, found: Sequence[str], limit: int) -> QueryScore:
    grades, relevant = query.grades, query.relevant
    missed = sorted(set(relevant) - set(found), key=lambda document: (-grades[document], document))
    return QueryScore(
        query.text,
        recall_at_k([grades.get(document, 0) > 0 for document in found], len(relevant)),
        graded_ndcg([grades.get(document, 0.0) for document in found], list(grades.values()), limit),
        len(relevant),
        tuple(missed),
        tuple(found),
    )


def _not_indexed(ids: Sequence[str], artifact: str) -> list[str]:
    """Return those ids that the artifact's collection has no vectors of."""
    flow, known = connection(), set[str]()
    for start in range(0, len(ids), IDS_AT_ONCE):
        condition = {"must": [{"has_id": list(ids[start : start + IDS_AT_ONCE])}]}
        parameters = {"filter": condition, "limit": IDS_AT_ONCE, "artifact": artifact, "return_content": False}
        known |= _ids(flow.post(wire.FILTER, None, parameters))
    return [each for each in ids if each not in known]


def _ids(documents: Iterable[Any]) -> set[str]:
    found = set()
    for document in documents:
        if (error := wire.error_of(document)) is not None:
            raise error
        found.add(document.id)
    return found
