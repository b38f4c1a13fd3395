"""`finetuner index ...`: maintains the index of a running Flow."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..api import retrieval
from ..api.session import login
from .options import Host, Token

index_app = typer.Typer(no_args_is_help=True, help="Inspect, back up, restore, verify and move the index of a Flow.")

Name = Annotated[str, typer.Argument(help="Name of the backup: its folder in backups/ of the Flow's workspace.")]


@index_app.command()
def status(host: Host = None, token: Token = None) -> None:
    """Print collections, documents, size, the artifact behind `live`, and the progress of a re-index."""
    login(host=host, token=token)
    _show(retrieval.index_status())


@index_app.command()
def backup(name: Name, host: Host = None, token: Token = None) -> None:
    """Write a consistent copy of the index. Searches continue; writes wait while files are copied."""
    login(host=host, token=token)
    _show(retrieval.backup_index(name))


@index_app.command()
def restore(name: Name, host: Host = None, token: Token = None) -> None:
    """Replace the index with a backup."""
    login(host=host, token=token)
    _show(retrieval.restore_index(name))


@index_app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Name of a backup. Default: the index itself.", show_default=False)] = "",
    host: Host = None,
    token: Token = None,
) -> None:
    """Verify counts and checksums, and that every document has its vector."""
    login(host=host, token=token)
    _show(retrieval.verify_index(name))


@index_app.command()
def move(
    url: Annotated[str, typer.Argument(help="URL of a Qdrant server, such as https://host:6333.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Copy the vectors to a Qdrant server, compare both copies, and search there from now on.

    The indexer reads the server's key from $QDRANT_API_KEY.

    Set its setting `index` to the URL before the Flow starts again.
    """
    login(host=host, token=token)
    _show(retrieval.move_index(url))


@index_app.command("cancel-reindex")
def cancel(host: Host = None, token: Token = None) -> None:
    """Cancel the re-index that a promotion started."""
    login(host=host, token=token)
    _show(retrieval.cancel_reindex())


@index_app.command()
def drop(
    artifact: Annotated[str, typer.Argument(help="Artifact id, alias or backbone.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Delete the vectors of an artifact that `live` does not search."""
    login(host=host, token=token)
    retrieval.drop_collection(artifact)


def _show(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=1))
