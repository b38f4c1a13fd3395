"""`finetuner index ...`: looking after the index of a Flow that is up."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..api import retrieval
from ..api.session import login
from .options import Host, Token

index_app = typer.Typer(no_args_is_help=True, help="Look after the index: status, backup, restore, verify, move.")

Name = Annotated[str, typer.Argument(help="Name of the backup, in backups/ of the Flow's workspace.")]


@index_app.command()
def status(host: Host = None, token: Token = None) -> None:
    """Print collections, documents, bytes, what `live` searches, and how far a re-index is."""
    login(host=host, token=token)
    _show(retrieval.index_status())


@index_app.command()
def backup(name: Name, host: Host = None, token: Token = None) -> None:
    """Write a consistent copy of the index; searches go on, writes wait while files are copied."""
    login(host=host, token=token)
    _show(retrieval.backup_index(name))


@index_app.command()
def restore(name: Name, host: Host = None, token: Token = None) -> None:
    """Put a backup in the place of the index."""
    login(host=host, token=token)
    _show(retrieval.restore_index(name))


@index_app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a backup; without it the index itself.")] = "",
    host: Host = None,
    token: Token = None,
) -> None:
    """Check counts, checksums, and that every document has its vector."""
    login(host=host, token=token)
    _show(retrieval.verify_index(name))


@index_app.command()
def move(
    url: Annotated[str, typer.Argument(help="Qdrant server, such as https://host:6333; key in $QDRANT_API_KEY.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Copy the vectors to a Qdrant server, compare, and search there; then set `index` of the indexer to the URL."""
    login(host=host, token=token)
    _show(retrieval.move_index(url))


@index_app.command("cancel-reindex")
def cancel(host: Host = None, token: Token = None) -> None:
    """End the re-index that a promotion started."""
    login(host=host, token=token)
    _show(retrieval.cancel_reindex())


@index_app.command()
def drop(
    artifact: Annotated[str, typer.Argument(help="Artifact whose vectors are no longer needed.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Forget the vectors of an artifact that `live` does not search."""
    login(host=host, token=token)
    retrieval.drop_collection(artifact)


def _show(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=1))
