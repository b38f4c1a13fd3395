"""The database that all rooms of a Flow share, named by $FINETUNER_DATABASE, and the workspace that it belongs to."""

from __future__ import annotations

import secrets
from pathlib import Path

import sqlalchemy as sa

from ..exceptions import FinetunerError, InvalidInput
from ..workspace.folder import ID_FILE, write_atomically
from ..workspace.tokens import locked
from .dialects import insert_new, server_time
from .engine import POOL, Database
from .tables import WORKSPACES
from .url import database_url
from .versions import check_version


def shared_database(root: Path, pool: int = POOL) -> Database | None:
    """Return the server's database; None without $FINETUNER_DATABASE, where each store has its own file.

    Args:
        root: folder of the workspace that the database is for.
        pool: most connections at a time.

    Raises:
        InvalidInput: another form of URL, tables of another version, or the database of another workspace.
        DatabaseUnreachable: the server is away, or refuses the password.
    """
    url = database_url()
    if url is None:
        return None
    database = Database.server(url, pool)
    try:
        check_version(database)
        _claim(database, root)
    except FinetunerError:
        database.close()
        raise
    return database


def foreign_workspace(database: Database, root: Path) -> str:
    """Return what is wrong if a database is another workspace's than `root`, else ''. Changes nothing.

    Raises:
        DatabaseUnreachable: the server is away.
    """
    with database.connect() as connection:
        owner = connection.execute(sa.select(WORKSPACES.c.id)).scalar()
    known = _known(root)
    if owner is None or owner == known:
        return ""
    return f"it belongs to workspace {owner[:8]}, and {ID_FILE} of {root} says {known[:8] or 'nothing'}"


def _known(root: Path) -> str:
    file = root / ID_FILE
    return file.read_text().strip() if file.exists() else ""


def _claim(database: Database, root: Path) -> None:
    """Check that the database is this workspace's: its rows name files of the workspace.

    The first workspace that uses a database claims it, and has the claim in a file from then on.
    """
    with locked(root), database.begin() as connection:
        known = _known(root)
        new = known or secrets.token_hex(16)
        insert_new(connection, WORKSPACES, only=1, id=new, claimed_at=server_time())
        owner = str(connection.execute(sa.select(WORKSPACES.c.id)).scalar_one())
        if owner != new:
            raise InvalidInput(
                f"the database {database.name} must be that of the workspace {root}. Got the one of another: "
                f"{owner[:8]}, and {ID_FILE} here says {known[:8] or 'nothing'}. Several machines share one folder as "
                "their workspace. Mount that folder, or name another database."
            )
        if not known:  # before the commit: a claim without a file would lock the workspace out
            write_atomically(root / ID_FILE, f"{new}\n".encode())
