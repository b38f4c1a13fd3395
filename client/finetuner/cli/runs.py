"""`finetuner runs` and `finetuner logs`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

import finetuner

from .options import Host, Token, example
from .output.table import print_table

Experiment = Annotated[str, typer.Option(help="Experiment that the run belongs to.")]


@example("finetuner runs")
def runs(host: Host = None, token: Token = None) -> None:
    """List the runs of all experiments, oldest first, 50 at most."""
    finetuner.login(host=host, token=token)
    rows = []
    for run in finetuner.list_runs():
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
        rows.append((run.name, run.experiment_name, run.last_status, run.artifact_id, created))
    print_table(("RUN", "EXPERIMENT", "STATUS", "ARTIFACT", "CREATED"), rows)


@example("finetuner logs my-run")
def logs(
    run: Annotated[str, typer.Argument(help="Name of the run.")],
    experiment: Experiment = "default",
    host: Host = None,
    token: Token = None,
) -> None:
    """Print the log of a run and follow it until the run ends."""
    finetuner.login(host=host, token=token)
    for line in finetuner.get_run(run, experiment).stream_logs(interval=1):
        print(line, flush=True)
