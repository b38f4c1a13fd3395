"""`finetuner token ...`: creates, lists and revokes access tokens. A running Flow applies changes at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..workspace.tokens import TokenFile

token_app = typer.Typer(no_args_is_help=True, help="Create, list and revoke access tokens for a Flow.")

Name = Annotated[str, typer.Argument(help="Name of the token's holder, as the audit log shows it.")]
Folder = Annotated[Path, typer.Option("--workspace", help="Workspace folder of the Flow, on this machine.")]
WORKSPACE = Path("workspace")


@token_app.command()
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="Rights of the token: read, write or admin.")] = "read",
    expires: Annotated[int | None, typer.Option(help="Days until the token expires. Default: never.")] = None,
    workspace: Folder = WORKSPACE,
) -> None:
    """Create a token and print it once. After the first one, the Flow requires a token from everyone."""
    file = TokenFile(workspace.resolve())
    secret = file.create(name, role, expires)
    print(f"Copy the token now: {file.path} stores only its hash, so it cannot be shown again.", file=sys.stderr)
    print(secret)


@token_app.command("list")
def list_all(workspace: Folder = WORKSPACE) -> None:
    """List the names, roles, states and dates of all tokens, without the secrets."""
    from rich.console import Console
    from rich.table import Table

    table = Table("Name", "Role", "State", "Created", "Expires")
    for token in TokenFile(workspace.resolve()).read():
        expires = "never" if token.expires_at is None else _date(token.expires_at)
        table.add_row(token.name, str(token.role), token.state(time.time()), _date(token.created_at), expires)
    Console().print(table)


@token_app.command()
def revoke(name: Name, workspace: Folder = WORKSPACE) -> None:
    """Revoke a token: the Flow no longer accepts it."""
    TokenFile(workspace.resolve()).revoke(name)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
