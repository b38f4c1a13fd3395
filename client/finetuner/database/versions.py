"""The version of a server's tables: checked at each start, changed by `finetuner db upgrade` alone."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ..exceptions import InvalidInput
from ..version import __version__
from .dialects import server_time
from .engine import Database
from .url import DatabaseUrl

HEAD = "0001"
"""The newest migration of this version. They are numbered: a higher number is a later version's."""
VERSION_TABLE = "finetuner_version"
MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE = "finetuner db upgrade"
MISSING = "42P01"  # PostgreSQL's code of a table that does not exist


def found_version(database: Database) -> str | None:
    """Return the version of the tables, None of an empty database.

    Raises:
        DatabaseUnreachable: the server is away.
    """
    with database.connect() as connection:
        known = connection.execute(sa.text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE}).scalar()
        if known is None:
            return None
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        return None if found is None else str(found)


def check_version(database: Database) -> None:
    """Check that the tables are those of this version.

    Raises:
        InvalidInput: they are older, or those of a later version.
        DatabaseUnreachable: the server is away.
    """
    found = found_version(database)
    if found == HEAD:
        return
    text = f"the tables of {database.name} must have version {HEAD}, of open-finetuner {__version__}."
    if found is not None and found > HEAD:
        raise InvalidInput(f"{text} Got {found[:20]!r}, of a later one. Install that version, or restore a backup.")
    got = "an empty database" if found is None else f"{found!r}, of an earlier one"
    raise InvalidInput(f"{text} Got {got}. Run `{UPGRADE}`. Back the database up before.")


def upgrade(url: DatabaseUrl) -> tuple[str | None, str]:
    """Bring the tables of a server to this version. Several processes may call it; one does it.

    Returns:
        The version before and after.

    Raises:
        InvalidInput: they are a later version's.
        DatabaseUnreachable: the server is away.
    """
    from alembic import command
    from alembic.config import Config

    with closing(Database.server(url)) as database:
        before = found_version(database)
        if before is not None and before > HEAD:
            check_version(database)
        with database.begin() as connection:
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            command.upgrade(config, "head")
        return before, found_version(database) or ""


@dataclass(frozen=True)
class ServerState:
    """What `finetuner db check` and the doctor tell of a server."""

    name: str
    """The URL without the password."""
    server: str
    """PostgreSQL's version, such as '16.4'."""
    version: str | None
    """Of the tables; None of an empty database."""
    ahead: float
    """Seconds that the server's clock is ahead of this machine's."""


def state_of(database: Database) -> ServerState:
    """Return the state of a server.

    Raises:
        DatabaseUnreachable: the server is away.
    """
    version = found_version(database)
    with database.connect() as connection:
        server = str(connection.execute(sa.text("SHOW server_version")).scalar()).split()[0]
        before = time.time()
        clock = float(connection.execute(sa.select(server_time())).scalar_one())
        after = time.time()
    return ServerState(database.name, server, version, clock - min(max(clock, before), after))
