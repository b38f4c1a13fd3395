"""`finetuner sweep`: several recipes and rates on one's own data."""

from __future__ import annotations

from typing import Annotated

import typer

import finetuner

from .options import Host, Token, example
from .output.table import print_table


@example("finetuner sweep clip-mini my-train my-eval --recipe default --recipe keep --rate 1e-3 --budget 100")
def sweep(
    model: Annotated[str, typer.Argument(help="Backbone or artifact to start from.")],
    train: Annotated[str, typer.Argument(help="Dataset of pairs to train on; see `finetuner data push`.")],
    evaluation: Annotated[str, typer.Argument(metavar="EVAL", help="Dataset of other pairs to compare on.")],
    recipe: Annotated[
        list[str] | None, typer.Option(help="Recipe to try; may be repeated. Default: default, keep, small-data.")
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Peak learning rate to try; may be repeated. Default: the recipe's own.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data in the last rung.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the last two.")] = 3,
    budget: Annotated[int | None, typer.Option(min=1, help="Most passes over the data in all.")] = None,
    guard: Annotated[str | None, typer.Option(help="Dataset of pairs that the model must keep.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment of the runs.")] = "sweep",
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    host: Host = None,
    token: Token = None,
) -> None:
    """Tune a model in several ways on your data, and print which is best, by how much, and the spread."""
    finetuner.login(host=host, token=token)
    done = finetuner.sweep(
        model,
        train,
        evaluation,
        recipes=recipe or ("default", "keep", "small-data"),
        learning_rates=rate or None,
        epochs=epochs,
        seeds=seeds,
        budget=budget,
        experiment_name=experiment,
        guard_data=guard,
        device=device,
    )
    rows = [
        (each.run_name, str(each.epochs), _shown(each.score) or each.problem, _shown(each.guard), each.artifact_id)
        for each in done.trials
    ]
    print_table(("RUN", "EPOCHS", "R@5", "GUARD", "ARTIFACT"), rows)
    print(done.verdict)
    print(f"finetuner artifact promote {done.artifact_id}")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
