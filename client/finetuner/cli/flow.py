"""`finetuner flow ...`: the Flows that this package has."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import example, with_example

flow_app = typer.Typer(
    no_args_is_help=True, help=with_example("Show a Flow's YAML, to change it.", "finetuner flow show finetuner")
)


@flow_app.callback()
def _flow() -> None:
    """Keep `show` a subcommand: typer would run a single command without its name."""


@flow_app.command()
@example("finetuner flow show encode")
def show(name: Annotated[str, typer.Argument(help="finetuner, search or encode.")] = "finetuner") -> None:
    """Print the YAML of a Flow. Its paths are those of this installation, so a changed copy starts from any folder."""
    from ..flow.settings import flow_file, read_flow

    print(read_flow(flow_file(name)), end="")
