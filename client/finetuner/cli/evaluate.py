"""`finetuner evaluate`: scores of the live index on queries with judged documents."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import finetuner

from .late_hubble import import_docarray
from .options import Host, Token, example
from .output.table import one_line, print_table

TEXT, IDS = 60, 60  # characters in the table


@example(
    "finetuner evaluate --queries queries.csv",
    "finetuner evaluate --queries queries.jsonl --qrels qrels/test.tsv --limit 20",
)
def evaluate(
    queries: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns query, document and relevance; BEIR's folder or queries.jsonl; or TREC topics."
        ),
    ],
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements: TREC's (query 0 document grade) or BEIR's tsv.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of matches that count.")] = 10,
    artifact: Annotated[
        str, typer.Option(help="Artifact id, alias or backbone that the documents were indexed with.")
    ] = "live",
    min_probability: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out matches that are less likely to be relevant.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Number of the worst queries to print.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as one JSON object.")] = False,
    host: Host = None,
    token: Token = None,
) -> None:
    """Score the live index on your own queries: recall, nDCG, and the worst queries first."""
    finetuner.login(host=host, token=token)
    import_docarray()
    found = finetuner.evaluate_queries(queries, qrels, limit=limit, artifact=artifact, min_probability=min_probability)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    for name, value in found.metrics.items():
        print(f"{name}  {value:.4f}")
    print(f"{len(found.queries)} queries by {found.artifact}")
    if found.without_relevant:
        print(f"{found.without_relevant} queries have no document with a grade above 0 and are left out")
    if found.not_indexed:
        names = ", ".join(found.not_indexed_ids[:5])
        print(f"{found.not_indexed} relevant documents are not indexed: {one_line(names, TEXT)}")
    rows = [
        (
            f"{score.ndcg:.3f}", f"{score.recall:.3f}", one_line(score.query, TEXT),
            one_line(", ".join(score.missed) or "-", IDS), one_line(", ".join(score.found[:3]) or "-", IDS),
        )
        for score in found.queries[:worst]
    ]  # fmt: skip
    if rows:
        print("\nWorst first:")
        print_table(("NDCG", "RECALL", "QUERY", "MISSED", "FOUND FIRST"), rows)
