"""Checks the database server of a Flow: whether it answers, the version of its tables, its clock, and its workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..contract.environment import DATABASE
from ..database.url import database_url, require_packages
from ..exceptions import DatabaseUnreachable, FinetunerError
from .finding import Finding, failed, ok, warning

CLOCK_SECONDS = 2.0


def database(root: Path) -> Iterator[Finding]:
    """Ask the server in $FINETUNER_DATABASE. Nothing is written to it.

    Args:
        root: absolute path of the workspace.
    """
    name = "database"
    try:
        url = database_url()
        if url is not None:
            require_packages()
    except FinetunerError as error:
        yield failed(name, str(error), f"Correct ${DATABASE}.")
        return
    if url is None:
        yield ok(name, f"SQLite files of the workspace; ${DATABASE} is not set")
        return
    from ..database.engine import Database
    from ..database.shared import foreign_workspace
    from ..database.versions import HEAD, UPGRADE, state_of

    with closing(Database.server(url, 1)) as server:
        try:
            state = state_of(server)
        except DatabaseUnreachable as error:
            advice = f"Start it, or correct ${DATABASE}: host, port, user, password, and the name of the database."
            yield failed(name, f"{url}: {str(error).partition('. Nothing')[0]}", advice)
            return
        described = f"{url}: PostgreSQL {state.server}, tables of version {state.version or 'none'}"
        if state.version is not None and state.version > HEAD:
            yield failed(name, f"{described}; this code has {HEAD}", "Install the later version that upgraded it.")
        elif state.version != HEAD:
            yield failed(name, f"{described}; this code has {HEAD}", f"Back it up, then run `{UPGRADE}`.")
        elif other := foreign_workspace(server, root):
            yield failed(name, f"{described}; {other}", "Mount the workspace that it was made with, or name another.")
        else:
            yield ok(name, described)
        if abs(state.ahead) > CLOCK_SECONDS:
            yield warning(
                name,
                f"its clock is {abs(state.ahead):.0f} s {'ahead' if state.ahead > 0 else 'behind'}",
                "Set both clocks by NTP. Leases go by the database's clock alone; dates of runs and tokens do not.",
            )
