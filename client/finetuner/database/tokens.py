"""Access tokens in the database that all gateways of a Flow share; without one, in `tokens.json` of the workspace."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import AlreadyExists, DatabaseUnreachable, FinetunerError, NotFound
from ..workspace.folder import DAMAGE
from ..workspace.tokens import TAKEN, Token, TokenFile, new_token, read_token
from .url import database_url, require_packages

if TYPE_CHECKING:  # a client of a Flow has no SQLAlchemy
    from .engine import Database

LOOK_SECONDS = 0.5
"""Between two looks of a gateway at the tokens: a revoked one opens nothing after it."""
KNOWN_SECONDS = 30.0
"""Time for which a gateway trusts the tokens that it knows while the database is away; afterwards it admits nobody."""
LOCK = 0x746F6B65  # 'toke': one change at a time


class TokenTable:
    """The tokens of a database.

    Args:
        database: with tables of this version.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """Place of the tokens, for messages."""
        return self._database.name

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def read(self) -> list[Token]:
        """Return every token, including revoked and expired ones, in order of creation. Damaged rows are left out.

        Raises:
            DatabaseUnreachable: the server is away.
        """
        return self._rows()[0]

    @property
    def in_use(self) -> bool:
        """Whether there are tokens: a Flow with them requires one."""
        tokens, damaged = self._rows()
        return bool(tokens or damaged)

    def problems(self) -> list[str]:
        """Return one sentence for each damaged row."""
        return [
            f"the row of token {name!r:.140} in {self.name} must be as `finetuner token` writes it. Got another. It "
            "opens nothing: revoke it, and create a new one."
            for name in self._rows()[1]
        ]

    def create(self, name: str, role: str, days: int | None = None) -> str:
        """Create a token and return its secret; see `TokenFile.create`.

        Raises:
            InvalidInput: an invalid name, role or number of days.
            AlreadyExists: the name of a token that is not revoked.
            DatabaseUnreachable: the server is away.
        """
        import sqlalchemy as sa

        from .tables import TOKENS

        secret, new = new_token(name, role, days)
        with self._database.begin() as connection:
            self._lock(connection)
            named = TOKENS.c.name == name
            known = connection.execute(sa.select(TOKENS.c.revoked_at).where(named)).first()
            if known is not None and known.revoked_at is None:
                raise AlreadyExists(TAKEN.format(name))
            connection.execute(sa.delete(TOKENS).where(named))
            connection.execute(sa.insert(TOKENS).values({**vars(new), "role": str(new.role)}))
        return secret

    def revoke(self, name: str) -> None:
        """Revoke a token; gateways stop accepting it within LOOK_SECONDS.

        Raises:
            NotFound: no such token, or one that is revoked already.
            DatabaseUnreachable: the server is away.
        """
        import sqlalchemy as sa

        from .tables import TOKENS

        with self._database.begin() as connection:
            self._lock(connection)
            left = TOKENS.c.revoked_at.is_(None)
            change = sa.update(TOKENS).where(TOKENS.c.name == name, left).values(revoked_at=time.time())
            if not connection.execute(change).rowcount:
                known = connection.execute(sa.select(TOKENS.c.name).where(left).order_by(TOKENS.c.created_at)).scalars()
                raise NotFound(
                    f"name must be a token that is not revoked: {', '.join(known) or 'none'}. Got {name!r:.140}."
                )

    def _lock(self, connection: Any) -> None:
        import sqlalchemy as sa

        if not self._database.embedded:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})

    def _rows(self) -> tuple[list[Token], list[str]]:
        import sqlalchemy as sa

        from .tables import TOKENS

        tokens, damaged = [], []
        with self._database.connect() as connection:
            for row in connection.execute(sa.select(TOKENS).order_by(TOKENS.c.created_at, TOKENS.c.name)):
                try:
                    tokens.append(read_token(dict(row._mapping)))
                except DAMAGE:
                    damaged.append(str(row.name))
        return tokens, damaged


class WatchedTokens:
    """The tokens of a database as a gateway knows them: a thread reads them again and again, and no request waits.

    Args:
        table: the tokens. They are read once now.
        look_seconds: between two looks.
        known_seconds: for which the tokens are trusted while the database is away.

    Raises:
        DatabaseUnreachable: the server is away.
    """

    def __init__(
        self, table: TokenTable, look_seconds: float = LOOK_SECONDS, known_seconds: float = KNOWN_SECONDS
    ) -> None:
        self._table, self._look_seconds, self._known_seconds = table, look_seconds, known_seconds
        self.name = table.name
        self._ended = threading.Event()
        self._look()
        threading.Thread(target=self._watch, name="tokens", daemon=True).start()

    def _look(self) -> None:
        asked = time.monotonic()
        self._tokens, self._damaged = self._table._rows()
        self._looked = asked

    def _watch(self) -> None:
        while not self._ended.wait(self._look_seconds):
            with suppress(FinetunerError):
                self._look()
        self._table.close()

    def version(self) -> object:
        """Return what changes whenever the tokens do."""
        return tuple(self._tokens), tuple(self._damaged)

    def read(self) -> list[Token]:
        """Return the known tokens."""
        return self._tokens

    @property
    def in_use(self) -> bool:
        """Whether there are tokens."""
        return bool(self._tokens or self._damaged)

    def problems(self) -> list[str]:
        """Return one sentence for each damaged row."""
        return [f"the row of token {name!r:.140} in {self.name} is damaged." for name in self._damaged]

    def require_known(self) -> None:
        """Check that the known tokens are not too old to be trusted.

        Raises:
            DatabaseUnreachable: the database has not answered for `known_seconds`.
        """
        if time.monotonic() - self._looked > self._known_seconds:
            raise DatabaseUnreachable(
                f"the Flow's database, which has the tokens, must have answered within {self._known_seconds:g} s. Got "
                "no answer. Send the request again in some seconds."
            )

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()


def token_store(root: Path) -> TokenFile | TokenTable:
    """Return the tokens of a workspace: those of the database in $FINETUNER_DATABASE, else those of its file.

    Args:
        root: the workspace's folder.

    Raises:
        InvalidInput: the database has tables of another version, or belongs to another workspace.
        DatabaseUnreachable: the server is away.
    """
    if database_url() is None:
        return TokenFile(root)
    require_packages()
    from .shared import shared_database

    database = shared_database(root, 1)
    assert database is not None
    return TokenTable(database)


def watched_tokens(root: Path) -> TokenFile | WatchedTokens:
    """Return the tokens of a workspace for a process that asks for them at each request; see `token_store`."""
    store = token_store(root)
    return store if isinstance(store, TokenFile) else WatchedTokens(store)


def tokens_in_use(root: Path) -> bool:
    """Return whether a workspace has tokens; see `token_store`."""
    store = token_store(root)
    try:
        return store.in_use
    finally:
        store.close()
