"""`finetuner token ...`: who may enter the Flow of a workspace. A Flow that is up notices with its next request."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..workspace.tokens import TokenFile

token_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens of a workspace.")

Name = Annotated[str, typer.Argument(help="Who holds it; the audit log names it.")]
Folder = Annotated[Path, typer.Option("--workspace", help="Folder of the Flow, on this machine.")]
WORKSPACE = Path("workspace")


@token_app.command()
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="What it may do: read, write or admin.")] = "read",
    expires: Annotated[int | None, typer.Option(help="Days until it does; without it never.")] = None,
    workspace: Folder = WORKSPACE,
) -> None:
    """Make a token and print it, once; from the first one on nobody enters without."""
    file = TokenFile(workspace.resolve())
    secret = file.create(name, role, expires)
    print(f"{file.path} keeps its hash alone: this is the only time that the token is shown.", file=sys.stderr)
    print(secret)


@token_app.command("list")
def list_all(workspace: Folder = WORKSPACE) -> None:
    """List the tokens: names, roles and dates, no secrets."""
    from rich.console import Console
    from rich.table import Table

    table = Table("Name", "Role", "State", "Created", "Expires")
    for token in TokenFile(workspace.resolve()).read():
        expires = "never" if token.expires_at is None else _date(token.expires_at)
        table.add_row(token.name, str(token.role), token.state(time.time()), _date(token.created_at), expires)
    Console().print(table)


@token_app.command()
def revoke(name: Name, workspace: Folder = WORKSPACE) -> None:
    """Let nobody enter with this token any more."""
    TokenFile(workspace.resolve()).revoke(name)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
