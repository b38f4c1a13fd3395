"""Options that several commands share, and the example in each command's help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])

Host = Annotated[
    str | None,
    typer.Option(help="Address of the Flow. Default: $FINETUNER_HOST, else grpc://127.0.0.1:51000."),
]
Token = Annotated[str | None, typer.Option(help="Token for the Flow. Default: $FINETUNER_TOKEN.")]


def example(*lines: str) -> Callable[[Command], Command]:
    """Add command lines to the end of a command's help, each as it would be typed."""

    def add(command: Command) -> Command:
        command.__doc__ = with_example(inspect.getdoc(command) or "", *lines)
        return command

    return add


def with_example(text: str, *lines: str) -> str:
    """Return a help text with command lines at its end."""
    return "\n".join([text, "", "\b", "Example:", *(f"  {line}" for line in lines)])  # \b: keep the line breaks
