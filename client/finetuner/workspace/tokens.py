"""Access tokens: names, roles and hashes, in `tokens.json` of the workspace.

A secret is 256 random bits, and only its SHA-256 is stored. Passwords need slow, salted hashes because people choose
them and attackers guess them; 256 random bits cannot be guessed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from ..contract.checks import checked_name, choice, whole
from ..exceptions import AlreadyExists, FinetunerError, InvalidInput, NotFound
from .folder import DAMAGE, file_version, write_atomically

ENVIRONMENT, ROOMS = "environment", "rooms"  # names of $FINETUNER_TOKEN and of the rooms' own secret
MAX_DAYS = 3650
PRIVATE = 0o600
ROOMS_FILE = "rooms.token"
TAKEN = "name must be new. Got {!r}, which is a token. Revoke it first."
DIGEST = re.compile(r"[0-9a-f]{64}")
SECRET = re.compile(rb"[A-Za-z0-9_-]{43}")  # of the rooms


class Role(IntEnum):
    """Role of a token; each role includes the rights of the roles before it."""

    READ = 1
    WRITE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


ROLES = tuple(map(str, Role))


@dataclass(frozen=True)
class Token:
    """A stored token."""

    name: str
    """Name of its person or program; written into the audit log."""
    role: Role
    digest: str
    """SHA-256 of the secret, in hex."""
    created_at: float = 0
    """Seconds since the epoch, as are the next two fields."""
    expires_at: float | None = None
    """None if it never expires."""
    revoked_at: float | None = None
    """None unless it was revoked."""

    def state(self, now: float) -> str:
        """Return 'valid', 'expired' or 'revoked', as of `now` in seconds since the epoch."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def digest_of(secret: bytes) -> str:
    """Return the hash of a secret, for storage."""
    return hashlib.sha256(secret).hexdigest()


class TokenFile:
    """The file of a workspace's tokens. Changes take a lock and replace the file atomically.

    Args:
        root: the workspace's folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "tokens.json"

    @property
    def name(self) -> str:
        """Place of the tokens, for messages."""
        return str(self.path)

    def version(self) -> object:
        """Return what changes whenever the tokens do."""
        return file_version(self.path)

    def close(self) -> None:
        """Nothing is open."""

    def read(self) -> list[Token]:
        """Return every token, including revoked and expired ones, in order of creation; [] without a file.

        Damaged entries are left out, so nobody enters with them.

        Raises:
            InvalidInput: a file in another format.
        """
        return self._entries()[0]

    @property
    def in_use(self) -> bool:
        """Whether the file has entries, or might have them: a Flow with such a file requires a token."""
        return bool(self.problems() or self.read())

    def problems(self) -> list[str]:
        """Return one sentence for a damaged file, or one for each damaged entry."""
        try:
            damaged = self._entries()[1]
        except (FinetunerError, OSError) as error:
            return [str(error)]
        return [
            f"entry {number} of {self.path.name} must be in the format of `finetuner token`. Got another. It is set "
            "aside, and its secret opens nothing: create a new token, and remove the entry."
            for number in damaged
        ]

    def _entries(self) -> tuple[list[Token], dict[int, Any]]:
        """Return the tokens, and the damaged entries by their number, from 1."""
        try:
            entries = json.loads(self.path.read_bytes())["tokens"]
            if not isinstance(entries, list):
                raise TypeError(f"{type(entries).__name__} instead of a list")
        except FileNotFoundError:
            return [], {}
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise InvalidInput(
                f"{self.path} must be in the format of `finetuner token`. Got another ({type(error).__name__}). "
                "Restore a copy, or remove the file and create new tokens."
            ) from None
        tokens: list[Token] = []
        damaged: dict[int, Any] = {}
        for number, entry in enumerate(entries, 1):
            try:
                tokens.append(read_token(entry))
            except DAMAGE:
                damaged[number] = entry
        return tokens, damaged

    def create(self, name: str, role: str, days: int | None = None) -> str:
        """Create a token and return its secret, which cannot be shown again.

        Args:
            name: valid as the name of a run; the name of a revoked token is free again.
            role: one of ROLES.
            days: until the token expires, 1 to MAX_DAYS; None for never.

        Raises:
            InvalidInput: an invalid name, role or number of days.
            AlreadyExists: the name of a token that is not revoked.
        """
        secret, new = new_token(name, role, days)
        with locked(self.path.parent):
            others, damaged = self._entries()
            if any(token.name == name and token.revoked_at is None for token in others):
                raise AlreadyExists(TAKEN.format(name))
            self._write([*(token for token in others if token.name != name), new], damaged.values())
        return secret

    def revoke(self, name: str) -> None:
        """Revoke a token; the Flow stops accepting it.

        Raises:
            NotFound: no such token, or one that is revoked already.
        """
        if not self.path.exists():
            raise NotFound(f"name must be a token of {self.path}. Got {name!r}, and no such file. Check the workspace.")
        with locked(self.path.parent):
            tokens, damaged = self._entries()
            known = [token.name for token in tokens if token.revoked_at is None]
            if name not in known:
                raise NotFound(f"name must be a token that is not revoked: {', '.join(known) or 'none'}. Got {name!r}.")
            self._write(
                [
                    Token(**{**vars(token), "revoked_at": time.time()}) if token.name == name else token
                    for token in tokens
                ],
                damaged.values(),
            )

    def _write(self, tokens: list[Token], damaged: Iterable[Any]) -> None:
        entries = [*({**asdict(token), "role": str(token.role)} for token in tokens), *damaged]
        write_atomically(self.path, json.dumps({"tokens": entries}, indent=1).encode(), PRIVATE)


def new_token(name: str, role: str, days: int | None) -> tuple[str, Token]:
    """Return the secret of a new token, and what is stored; see `TokenFile.create`.

    Raises:
        InvalidInput: an invalid name, role or number of days.
    """
    if checked_name(name, "name") in (ENVIRONMENT, ROOMS):
        raise InvalidInput(
            f"name must not be {ENVIRONMENT} or {ROOMS}, which the Flow uses. Got {name!r}. Choose another."
        )
    choice("role", role, ROLES)
    now = time.time()
    expires = None if days is None else now + 86400 * whole("expires", days, 1, MAX_DAYS)
    secret = f"ft_{secrets.token_urlsafe(32)}"
    return secret, Token(name, Role[role.upper()], digest_of(secret.encode()), now, expires)


def read_token(entry: Any) -> Token:
    """Return the token of an entry; raise an error of DAMAGE for another entry."""
    token = Token(**{**entry, "role": Role[entry["role"].upper()]})
    times = [time for time in (token.created_at, token.expires_at, token.revoked_at) if time is not None]
    if not (isinstance(token.name, str) and DIGEST.fullmatch(token.digest) and all(map(math.isfinite, times))):
        raise ValueError("another value")
    return token


def rooms_secret(root: Path) -> str:
    """Return the secret of the Flow's own rooms, creating it on first use.

    The indexer sends it when it asks the gateway for embeddings, the gateway with each request to a room. It is stored
    unhashed in `rooms.token`. A process that can read this file could also edit `tokens.json`.

    Args:
        root: the workspace's folder, shared by rooms and gateway.
    """
    file = root / ROOMS_FILE
    with locked(root):
        secret = file.read_bytes() if file.exists() else b""
        if not SECRET.fullmatch(secret):  # an empty one would open the Flow to everybody
            secret = secrets.token_urlsafe(32).encode()
            write_atomically(file, secret, PRIVATE)
    return secret.decode()


def is_loopback(host: str) -> bool:
    """Return whether a server's address, or the host of a URL, is a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock the tokens of a workspace for changes by one process at a time."""
    import fcntl  # missing on Windows; the rest of the command line works there

    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".tokens.lock", os.O_CREAT | os.O_RDWR, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
