"""The URL of a database server, from $FINETUNER_DATABASE. Its password is never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ..contract.environment import DATABASE
from ..exceptions import InvalidInput

SCHEMES = ("postgresql", "postgres")
FORM = "postgresql://user:password@host/db"
# Others would change what connections of ours rely on, or would hold the password where it is shown.
OPTIONS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs")
HIDDEN = "***"
PACKAGES = ("sqlalchemy", "psycopg", "alembic")


@dataclass(frozen=True)
class DatabaseUrl:
    """A parsed URL. `str` and `repr` hide the password."""

    user: str
    """'' for the user of the process."""
    password: str | None = field(repr=False)
    host: str
    """'' for a local socket, or for `host` among the options."""
    port: int | None
    database: str
    options: tuple[tuple[str, str], ...] = ()
    """Of libpq, such as ('sslmode', 'verify-full')."""

    @classmethod
    def read(cls, given: str) -> DatabaseUrl:
        """Return the parts of a URL.

        Raises:
            InvalidInput: another form. The message has no part of the URL that could be a password.
        """
        try:
            parts = urlsplit(given.strip())
            port = parts.port
        except ValueError:  # its message has the text of the port, which may be a password with an unquoted '/'
            raise _refused("another port, or a password with characters that must be quoted") from None
        if parts.scheme not in SCHEMES:
            raise _refused(f"scheme {parts.scheme[:20]!r}" if parts.scheme else "no scheme")
        if parts.fragment or "@" in parts.path:
            raise _refused("a '#' or an '@' in another place")
        name = unquote(parts.path.removeprefix("/"))
        if not name or "/" in name or "\0" in name:
            raise _refused("no name of a database" if not name else "another name of a database")
        options = tuple(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted({option for option, _ in options} - set(OPTIONS)):
            raise _refused(f"option {unknown[0][:30]!r}; the options are {', '.join(OPTIONS)}")
        password = None if parts.password is None else unquote(parts.password)
        return cls(unquote(parts.username or ""), password, parts.hostname or "", port, name, options)

    def __str__(self) -> str:
        password = "" if self.password is None else f":{HIDDEN}"
        user = f"{quote(self.user, safe='')}{password}@" if self.user or password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        options = "&".join(f"{name}={value}" for name, value in self.options)
        return f"postgresql://{user}{host}{port}/{self.database}{f'?{options}' if options else ''}"


def database_url() -> DatabaseUrl | None:
    """Return the URL in $FINETUNER_DATABASE; None if it is not set or empty.

    Raises:
        InvalidInput: it has another form.
    """
    given = os.environ.get(DATABASE, "")
    return DatabaseUrl.read(given) if given.strip() else None


def require_packages() -> None:
    """Check that the packages of a database server are installed, which a client of a Flow has not.

    Raises:
        InvalidInput: one is missing.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InvalidInput(
            f"{DATABASE} needs the packages {', '.join(PACKAGES)}. Got none of {', '.join(missing)}. Run: pip install "
            "'open-finetuner[postgres]'."
        )


def check_database(root: Path) -> None:
    """Check the database before a Flow of this workspace starts; without $FINETUNER_DATABASE there is nothing to check.

    Raises:
        InvalidInput: another form of URL, tables of another version, or the database of another workspace.
        DatabaseUnreachable: the server is away, or refuses the password.
    """
    if database_url() is not None:
        require_packages()
        from .shared import shared_database  # imports SQLAlchemy, which a client has not

        database = shared_database(root, 1)
        assert database is not None
        database.close()


def _refused(got: str) -> InvalidInput:
    return InvalidInput(
        f"{DATABASE} must be like {FORM}. Got {got}. Correct it: quote '@', '/', ':', '#' and '%' of a password as "
        "%40, %2F, %3A, %23 and %25."
    )
