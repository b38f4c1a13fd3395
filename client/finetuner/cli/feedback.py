"""`finetuner feedback ...`: marks what fits among the results of searches, and manages the marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import finetuner

from .options import Host, Token, example, with_example

feedback_app = typer.Typer(
    no_args_is_help=True,
    help=with_example("Mark results of searches, and list, export and delete marks.", "finetuner feedback list"),
)

User = Annotated[str | None, typer.Option(help="Only marks of the token of this name.")]
Shown = Annotated[str | None, typer.Option(help="Only marks that show the document of this id.")]


@feedback_app.command()
@example("finetuner feedback mark 'a red dress' --shown d1 --shown d2 --chosen d2")
def mark(
    text: Annotated[str, typer.Argument(help="The query of the search.")],
    shown: Annotated[list[str], typer.Option(help="Id of a shown document; repeat it, best first.")],
    chosen: Annotated[list[str] | None, typer.Option(help="Id of one that fits; may be repeated.")] = None,
    refused: Annotated[list[str] | None, typer.Option(help="Id of one that does not; may be repeated.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Number of better matches that were not shown.")] = 0,
    host: Host = None,
    token: Token = None,
) -> None:
    """Store a mark and print its id. It is on the Flow's disk then."""
    finetuner.login(host=host, token=token)
    print(finetuner.feedback(text, shown, chosen=chosen or (), refused=refused or (), offset=offset))


@feedback_app.command("list")
@example("finetuner feedback list --limit 20")
def list_all(
    user: User = None,
    document: Shown = None,
    after: Annotated[int, typer.Option(min=0, help="`next` of the page before.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Highest number of marks.")] = 100,
    host: Host = None,
    token: Token = None,
) -> None:
    """Print a page of marks as JSON, oldest first."""
    finetuner.login(host=host, token=token)
    print(json.dumps(finetuner.list_feedback(user=user, document=document, after=after, limit=limit), indent=2))


@feedback_app.command()
@example("finetuner feedback export marks.jsonl")
def export(
    file: Annotated[Path, typer.Argument(help="File to write, one JSON object a line.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Write all marks into a file, with the images of queries."""
    finetuner.login(host=host, token=token)
    print(f"{finetuner.export_feedback(file)} marks: {file}")


@feedback_app.command()
@example("finetuner feedback delete --user anna")
def delete(
    user: User = None,
    document: Shown = None,
    mark_id: Annotated[list[str] | None, typer.Option("--id", help="Id of a mark; may be repeated.")] = None,
    host: Host = None,
    token: Token = None,
) -> None:
    """Delete marks for good: those of which every given condition holds. Print their number."""
    finetuner.login(host=host, token=token)
    print(finetuner.delete_feedback(user=user, document=document, ids=mark_id or None))
