"""Who may enter a Flow: named tokens with roles, in `tokens.json` of the workspace, as hashes.

A secret is 256 random bits and is kept nowhere. SHA-256 of it is enough: the slow, salted hashes of passwords are there
for what people choose, which can be guessed; of 2**256 secrets nobody tries a part worth naming.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from ..contract.checks import checked_name, choice, whole
from ..exceptions import AlreadyExists, InvalidInput, NotFound
from .folder import write_atomically

ENVIRONMENT, ROOMS = "environment", "rooms"  # names of $FINETUNER_TOKEN, and of what the Flow's own rooms show
MAX_DAYS = 3650
PRIVATE = 0o600


class Role(IntEnum):
    """What a token may do; each role may do what those before it may."""

    READ = 1
    WRITE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


ROLES = tuple(map(str, Role))


@dataclass(frozen=True)
class Token:
    """One token at rest."""

    name: str
    """Of the person or program that holds it; written into the audit log."""
    role: Role
    digest: str
    """SHA-256 of the secret, in hexadecimal."""
    created_at: float = 0
    """Seconds since the epoch, and so are the next two."""
    expires_at: float | None = None
    """None: never."""
    revoked_at: float | None = None
    """None: it is not."""

    def state(self, now: float) -> str:
        """Return 'valid', 'expired' or 'revoked', as of `now` in seconds since the epoch."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def digest_of(secret: bytes) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret).hexdigest()


class TokenFile:
    """The tokens of a workspace. Changes are made under a lock, and a reader sees all of one or nothing.

    Args:
        root: the workspace's folder.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "tokens.json"

    def read(self) -> list[Token]:
        """Return every token, revoked and expired ones too, in the order of their making; [] without a file.

        Raises:
            InvalidInput: a file that is not as we write it.
        """
        try:
            entries = json.loads(self.path.read_bytes())["tokens"]
            return [Token(**{**entry, "role": Role[entry["role"].upper()]}) for entry in entries]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise InvalidInput(
                f"{self.path} must be as `finetuner token` writes it. Got something else ({type(error).__name__}). "
                "Put a copy back, or remove it and make new tokens."
            ) from None

    def create(self, name: str, role: str, days: int | None = None) -> str:
        """Make a token and return its secret, which nothing can show again.

        Args:
            name: as of a run; that of a revoked token may be used again.
            role: of ROLES.
            days: until it expires, 1 to MAX_DAYS; None for never.

        Raises:
            InvalidInput: another name, role or number.
            AlreadyExists: the name is a token's that is not revoked.
        """
        if checked_name(name, "name") in (ENVIRONMENT, ROOMS):
            raise InvalidInput(f"name must be none of {ENVIRONMENT} and {ROOMS}, which the Flow uses. Got {name!r}.")
        choice("role", role, ROLES)
        now = time.time()
        expires = None if days is None else now + 86400 * whole("expires", days, 1, MAX_DAYS)
        secret = f"ft_{secrets.token_urlsafe(32)}"
        with locked(self.path.parent):
            others = self.read()
            if any(token.name == name and token.revoked_at is None for token in others):
                raise AlreadyExists(f"name must be new. Got {name!r}, which is a token. Revoke that one first.")
            new = Token(name, Role[role.upper()], digest_of(secret.encode()), now, expires)
            self._write([*(token for token in others if token.name != name), new])
        return secret

    def revoke(self, name: str) -> None:
        """Let nobody enter with this token any more.

        Raises:
            NotFound: no such token, or it is revoked already.
        """
        if not self.path.exists():
            raise NotFound(f"name must be a token of {self.path}. There is no such file. Is it another workspace?")
        with locked(self.path.parent):
            tokens = self.read()
            known = [token.name for token in tokens if token.revoked_at is None]
            if name not in known:
                raise NotFound(f"name must be a token that is not revoked: {', '.join(known) or 'none'}. Got {name!r}.")
            self._write(
                [
                    Token(**{**vars(token), "revoked_at": time.time()}) if token.name == name else token
                    for token in tokens
                ]
            )

    def _write(self, tokens: list[Token]) -> None:
        entries = [{**asdict(token), "role": str(token.role)} for token in tokens]
        write_atomically(self.path, json.dumps({"tokens": entries}, indent=1).encode(), PRIVATE)


def rooms_secret(root: Path) -> str:
    """Return what the Flow's own rooms show at its gateway, made where it is not there yet.

    The indexer asks the gateway to encode. Whoever can read the file, `rooms.token`, could edit `tokens.json` as well.

    Args:
        root: the workspace's folder, which rooms and gateway share.
    """
    file = root / "rooms.token"
    with locked(root):
        if not file.exists():
            write_atomically(file, secrets.token_urlsafe(32).encode(), PRIVATE)
    return file.read_text()


def is_loopback(host: str) -> bool:
    """Return whether an address that a server listens on, or a name in a URL, is this machine's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time change the tokens of a workspace."""
    import fcntl  # not on Windows, where the rest of the command line works

    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".tokens.lock", os.O_CREAT | os.O_RDWR, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
