"""Connections to a database: an embedded SQLite file, or a PostgreSQL server that may be away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from ..exceptions import DatabaseUnreachable
from .url import DatabaseUrl

POOL = 5  # connections of one store
POOL_SECONDS = 5.0  # that a call waits for one of them
RECYCLE_SECONDS = 1800
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two attempts to connect
APPLICATION = "open-finetuner"
# Seconds, by libpq and the server: a server that vanishes without a word holds no call for long.
CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
SESSION = {"statement_timeout": 30_000, "lock_timeout": 10_000, "idle_in_transaction_session_timeout": 60_000}
AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)


class Database:
    """A database. Threads may share it; processes may not.

    Args:
        engine: of SQLAlchemy.
        name: for messages, without a password.
    """

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine, self.name = engine, name
        self.embedded = engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        self._pause, self._again_at = 0.0, 0.0
        self._last = ""

    @classmethod
    def embedded_file(cls, file: Path, *pragmas: str, alone: bool = False) -> Self:
        """Return the database of a SQLite file, created when it is first used.

        Args:
            file: its folder must exist.
            pragmas: of each connection, beside a write-ahead log that is on disk when a write returns.
            alone: whether all threads share one connection, and take turns by a lock of theirs.
        """
        pool: dict[str, Any] = {}
        if alone:
            pool = {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(file)), hide_parameters=True, **pool)

        def prepare(connection: Any, _: Any) -> None:
            # FULL: an acknowledged run survives a power cut
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", *pragmas):
                connection.execute(f"PRAGMA {pragma}")

        sa.event.listen(engine, "connect", prepare)
        return cls(engine, file.name)

    @classmethod
    def server(cls, url: DatabaseUrl, pool: int = POOL) -> Self:
        """Return the database of a server. Nothing connects before its first use.

        Args:
            url: of the server.
            pool: most connections at a time.
        """
        query = dict(url.options)
        engine = sa.create_engine(
            sa.URL.create(
                "postgresql+psycopg", url.user or None, url.password, url.host or None, url.port, url.database, query
            ),
            pool_size=pool,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=True,  # finds out that the server was restarted since
            pool_recycle=RECYCLE_SECONDS,
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "keepalives_idle": ANSWER_SECONDS,
                "keepalives_interval": 5,
                "keepalives_count": 2,
                "tcp_user_timeout": ANSWER_SECONDS * 1000,
                "application_name": APPLICATION,
                "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
            },
        )
        return cls(engine, str(url))

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """Return a transaction, committed at the end of the block.

        Raises:
            DatabaseUnreachable: the server is away. Nothing of the block is acknowledged.
        """
        return self._connected(self._engine.begin)

    def connect(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection for reading.

        Raises:
            DatabaseUnreachable: the server is away.
        """
        return self._connected(self._engine.connect)

    @contextmanager
    def _connected(self, enter: Callable[[], AbstractContextManager[sa.Connection]]) -> Iterator[sa.Connection]:
        if self.embedded:
            with enter() as connection:
                yield connection
            return
        if time.monotonic() < self._again_at:  # calls do not queue up before a server that is away
            raise self._away()
        entered = False
        try:
            with enter() as connection:
                entered, self._pause = True, 0.0
                yield connection
        except (*AWAY, sa.exc.DBAPIError) as error:
            gone = isinstance(error, sa.exc.DBAPIError) and (error.connection_invalidated or not entered)
            if not gone and not isinstance(error, AWAY):  # such as a name that is taken
                raise
            self._last = reason(error)
            if gone:  # and not a statement that took too long, or a full pool
                self._put_off()
            raise self._away() from None  # the driver's error has the statement

    def _put_off(self) -> None:
        with self._lock:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._again_at = time.monotonic() + self._pause

    def _away(self) -> DatabaseUnreachable:
        return DatabaseUnreachable(
            f"the Flow's database must answer. Got: {self._last or 'no answer'}. Nothing of the request is "
            "acknowledged: send it again in some seconds. The Flow's owner sees more by `finetuner db check`."
        )

    def create(self, *tables: sa.Table) -> None:
        """Create the tables that an embedded file lacks. A server's are made by `finetuner db upgrade`."""
        if self.embedded:
            with self._engine.begin() as connection:
                tables[0].metadata.create_all(connection, tables=list(tables))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def reason(error: Exception) -> str:
    """Return what a driver says in one line, without the statement and without the way to the server."""
    text = str(getattr(error, "orig", None) or error).strip()
    line = next((part for part in reversed(text.splitlines()) if "FATAL" in part or "failed" in part), "")
    line = line or (text.splitlines() or [type(error).__name__])[0]
    for start in ("FATAL:", "failed:"):
        line = line.rpartition(start)[2] if start in line else line
    return " ".join(line.split())[:200] or type(error).__name__
