"""`finetuner feedback ...`: marks what fits among the results of searches, and manages the marks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import finetuner

from ..exceptions import InvalidInput
from .options import Host, Token, example, with_example
from .schedule import repeat

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


@example(
    "finetuner improve --on feedback --guard general-pairs",
    "finetuner improve --guard general-pairs --every '0 3 * * 1'",
)
def improve(
    guard: Annotated[str, typer.Option(help="Dataset or file of pairs that the model must keep.")],
    on: Annotated[str, typer.Option(help="What to learn from: feedback, the marks of searches.")] = "feedback",
    model: Annotated[
        str | None, typer.Option(help="Backbone or artifact to start from. Default: the one promoted last.")
    ] = None,
    margin: Annotated[float, typer.Option(help="By which the mean R@5 on held-out queries must rise.")] = 0.01,
    guard_tolerance: Annotated[float, typer.Option(help="By which the mean R@5 on the guard may fall.")] = 0.01,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the images.")] = 5,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the run, such as keep.")] = None,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    position_bias: Annotated[float, typer.Option(help="How fast people stop looking; 0 corrects nothing.")] = 0.0,
    skipped: Annotated[bool, typer.Option(help="Whether what was skipped above a choice counts as refused.")] = False,
    every: Annotated[
        str | None, typer.Option(help="Cron expression of local time: a round at each, until Ctrl-C.")
    ] = None,
    host: Host = None,
    token: Token = None,
) -> None:
    """Tune the live model on marks. Promote the result if held-out queries find more; exits with 1 if not."""
    if on != "feedback":
        raise InvalidInput(f"--on must be feedback. Got {on!r}. Other sources go to finetuner.fit.")
    finetuner.login(host=host, token=token)

    def one_round() -> bool:
        done = finetuner.improve(
            guard,
            finetuner.feedback_data(position_bias=position_bias, skipped=skipped),
            model=model,
            margin=margin,
            guard_tolerance=guard_tolerance,
            epochs=epochs,
            recipe=recipe,
            device=device,
        )
        print(json.dumps(asdict(done), indent=2), flush=True)
        return done.promoted

    if every is not None:
        repeat(every, one_round)
    if not one_round():
        raise typer.Exit(1)
