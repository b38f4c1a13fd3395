"""`finetuner token ...`: creates, lists and revokes access tokens. A running Flow applies changes at once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..contract.environment import TOKEN
from ..exceptions import InvalidInput
from .options import example, with_example
from .output.table import print_table

token_app = typer.Typer(
    no_args_is_help=True,
    help=with_example("Create, list and revoke access tokens for a Flow.", "finetuner token list"),
)

Name = Annotated[str, typer.Argument(help="Name of the token's holder, as the audit log shows it.")]
Folder = Annotated[Path, typer.Option("--workspace", help="Workspace folder of the Flow, on this machine.")]
WORKSPACE = Path("workspace")


@token_app.command()
@example("finetuner token create anna --role write --expires 90")
def create(
    name: Name,
    role: Annotated[str, typer.Option(help="Rights of the token: read, write or admin.")] = "read",
    expires: Annotated[int | None, typer.Option(help="Days until the token expires. Default: never.")] = None,
    workspace: Folder = WORKSPACE,
) -> None:
    """Create a token and print it once. The first is an admin's: after it, the Flow requires a token from everyone."""
    from ..database.tokens import token_store
    from ..workspace.tokens import ROLES

    store = token_store(workspace.resolve())
    opens = not (os.environ.get(TOKEN) or store.in_use)
    if opens and role in ROLES[:-1]:
        raise InvalidInput(
            f"role of the first token must be admin: from then on the Flow requires a token from everyone, its owner "
            f"included. Got {role!r}. Create the owner's token first: finetuner token create NAME --role admin."
        )
    secret = store.create(name, role, expires)
    if opens:
        print(
            f"The Flow requires a token from everyone now. For your own commands: export {TOKEN}=the token.",
            file=sys.stderr,
        )
    print(f"Copy the token now: {store.name} stores only its hash, so it cannot be shown again.", file=sys.stderr)
    print(secret)


@token_app.command("list")
@example("finetuner token list")
def list_all(workspace: Folder = WORKSPACE) -> None:
    """List the names, roles, states and dates of all tokens, without the secrets."""
    from ..database.tokens import token_store

    rows = []
    for token in token_store(workspace.resolve()).read():
        expires = "never" if token.expires_at is None else _date(token.expires_at)
        rows.append((token.name, str(token.role), token.state(time.time()), _date(token.created_at), expires))
    print_table(("NAME", "ROLE", "STATE", "CREATED", "EXPIRES"), rows)


@token_app.command()
@example("finetuner token revoke anna")
def revoke(name: Name, workspace: Folder = WORKSPACE) -> None:
    """Revoke a token: the Flow no longer accepts it."""
    from ..database.tokens import token_store

    token_store(workspace.resolve()).revoke(name)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
