"""`finetuner index ...`: maintains the index of a running Flow."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

import finetuner

from .options import Host, Token, example, with_example

index_app = typer.Typer(
    no_args_is_help=True,
    help=with_example("Inspect, back up, restore, verify and move the index of a Flow.", "finetuner index status"),
)

Name = Annotated[str, typer.Argument(help="Name of the backup: its folder in backups/ of the Flow's workspace.")]


@index_app.command()
@example("finetuner index status")
def status(host: Host = None, token: Token = None) -> None:
    """Print collections, documents, size, the artifact behind `live`, and the progress of a re-index."""
    finetuner.login(host=host, token=token)
    _show(finetuner.index_status())


@index_app.command()
@example("finetuner index backup before-upgrade")
def backup(name: Name, host: Host = None, token: Token = None) -> None:
    """Write a consistent copy of the index. Searches continue; writes wait while files are copied."""
    finetuner.login(host=host, token=token)
    _show(finetuner.backup_index(name))


@index_app.command()
@example("finetuner index restore before-upgrade")
def restore(name: Name, host: Host = None, token: Token = None) -> None:
    """Replace the index with a backup."""
    finetuner.login(host=host, token=token)
    _show(finetuner.restore_index(name))


@index_app.command()
@example("finetuner index verify")
def verify(
    name: Annotated[str, typer.Argument(help="Name of a backup. Default: the index itself.", show_default=False)] = "",
    host: Host = None,
    token: Token = None,
) -> None:
    """Verify counts and checksums, and that every document has its vector."""
    finetuner.login(host=host, token=token)
    _show(finetuner.verify_index(name))


@index_app.command()
@example("finetuner index move https://qdrant.example.com:6333")
def move(
    url: Annotated[str, typer.Argument(help="URL of a Qdrant server, such as https://host:6333.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Copy the vectors to a Qdrant server, compare both copies, and search there from now on.

    The indexer reads the server's key from $QDRANT_API_KEY.

    Set its setting `index` to the URL before the Flow starts again.
    """
    finetuner.login(host=host, token=token)
    _show(finetuner.move_index(url))


@index_app.command("cancel-reindex")
@example("finetuner index cancel-reindex")
def cancel(host: Host = None, token: Token = None) -> None:
    """Cancel the re-index that a promotion started."""
    finetuner.login(host=host, token=token)
    _show(finetuner.cancel_reindex())


@index_app.command()
@example("finetuner index drop clip-mini")
def drop(
    artifact: Annotated[str, typer.Argument(help="Artifact id, alias or backbone.")],
    host: Host = None,
    token: Token = None,
) -> None:
    """Delete the vectors of an artifact that `live` does not search."""
    finetuner.login(host=host, token=token)
    finetuner.drop_collection(artifact)


def _show(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=1))
