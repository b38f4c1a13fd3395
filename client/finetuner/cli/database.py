"""`finetuner db ...`: checks, upgrades and fills the database server of a Flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..contract.environment import DATABASE
from ..exceptions import InvalidInput
from .options import example, with_example

if TYPE_CHECKING:
    from ..database.url import DatabaseUrl

db_app = typer.Typer(
    no_args_is_help=True,
    help=with_example(f"Check, upgrade and fill the PostgreSQL database in ${DATABASE}.", "finetuner db check"),
)


@db_app.command()
@example("finetuner db upgrade")
def upgrade() -> None:
    """Create the tables, or bring those of an earlier version to this one. Back the database up before."""
    url = _url()
    from ..database.versions import upgrade as upgrade_tables

    before, after = upgrade_tables(url)
    print(f"{url}: version {after}" + (", as before" if before == after else f", before: {before or 'empty'}"))


@db_app.command()
@example("finetuner db check")
def check() -> None:
    """Print the server, its version, the version of the tables and the difference of the clocks. Changes nothing."""
    from contextlib import closing

    url = _url()
    from ..database.engine import Database
    from ..database.versions import check_version, state_of

    with closing(Database.server(url, 1)) as database:
        state = state_of(database)
        print(f"{state.name}: PostgreSQL {state.server}, tables of version {state.version or 'none'}")
        print(f"its clock is {abs(state.ahead):.1f} s {'ahead' if state.ahead > 0 else 'behind'}")
        check_version(database)


@db_app.command()
@example("finetuner db copy --workspace workspace")
def copy(
    workspace: Annotated[Path, typer.Option(help="Folder of the workspace; no Flow may use it.")] = Path("workspace"),
) -> None:
    """Copy runs, marks and tokens from the files of a workspace into the database. The files stay as they are."""
    _url()
    if not workspace.is_dir():
        raise InvalidInput(f"--workspace must be the folder of a workspace. Got {workspace}, which is none. Check it.")
    from ..database.copy import copy_files

    for table, count in copy_files(workspace.resolve()).items():
        print(f"{table}: {count} copied")


def _url() -> DatabaseUrl:
    from ..database.url import FORM, database_url, require_packages

    url = database_url()
    if url is None:
        raise InvalidInput(
            f"{DATABASE} must be set for this, like {FORM}. Got none. Without it, there are SQLite files, which "
            "need no upgrade."
        )
    require_packages()
    return url
