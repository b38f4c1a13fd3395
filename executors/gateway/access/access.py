"""Who may enter, and how far: the same rules for gRPC and HTTP.

Without a token everybody may enter who reaches the port, which is then one of this machine alone. From the first token
on nobody enters without, not even when the last one is revoked or its file is gone.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jina.logging.logger import JinaLogger

from finetuner.exceptions import FinetunerError, Forbidden, InvalidInput, ResourceExhausted, Unauthorized
from finetuner.workspace.tokens import ENVIRONMENT, ROOMS, Role, Token, TokenFile, digest_of, is_loopback, rooms_secret

from .audit import Audit
from .rate import Rate


@dataclass(frozen=True)
class Caller:
    """Who has sent a request."""

    name: str
    """Its token's; '' where the Flow has none."""
    role: Role


ANYBODY = Caller("", Role.ADMIN)


class TooFast(ResourceExhausted):
    """More requests a second than a token may send.

    Args:
        message: one line.
        wait: seconds until the next one may pass.
    """

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Access:
    """The tokens that open the door, read again when their file changes.

    Args:
        secret: an admin's token, by the environment or the YAML; visible ASCII characters.
        root: the workspace's folder; None for a Flow without one, which knows `secret` alone.
        rate_limit: requests a second for each token; 0 for no limit.
        host: address that the gateway listens on.

    Raises:
        InvalidInput: a secret that a header cannot carry or that YAML has turned into a number, and an address that
            other machines reach while there is no token.
    """

    def __init__(
        self, secret: str | None, root: Path | None = None, rate_limit: float = 0, host: str = "127.0.0.1"
    ) -> None:
        self.audit = Audit(root)
        self._log = JinaLogger("access")
        self._rate = Rate(rate_limit)
        self._file = None if root is None else TokenFile(root)
        self._seen: tuple[int, ...] | None = None
        self._filed: list[Token] = []
        self._fixed: list[Token] = []
        if root is not None:
            with suppress(OSError):  # a folder that this Flow only reads, which has no indexer then
                self._fixed.append(Token(ROOMS, Role.READ, digest_of(rooms_secret(root).encode())))
        if secret is not None:
            self._fixed.append(Token(ENVIRONMENT, Role.ADMIN, digest_of(_checked(secret))))
        self._locked = secret is not None
        if not self.locked and not is_loopback(host):
            raise InvalidInput(
                f"host must be 127.0.0.1 while there is no token, or everybody may enter. Got {host}. "
                "Make a token with `finetuner token create NAME --role admin`, or set FINETUNER_TOKEN."
            )

    @property
    def locked(self) -> bool:
        """Whether a token is asked for."""
        self._read()
        return self._locked

    def enter(self, header: str | bytes | None, transport: str, request: str = "") -> Entry:
        """Let a request in.

        Args:
            header: what came as `authorization`.
            transport: 'grpc' or 'http'.
            request: of HTTP, its method and path, for the audit log.

        Raises:
            Unauthorized: no token, or none that is valid.
            TooFast: more requests than a token may send.
        """
        caller = self.caller(header)
        if caller.name != ROOMS and (wait := self._rate.wait(caller.name)):
            raise TooFast(f"requests of a token must be fewer a second. Try again in {wait:.1f} s.", wait)
        return Entry(self, caller, transport, request)

    def caller(self, header: str | bytes | None) -> Caller:
        """Return who shows this `authorization` header.

        Raises:
            Unauthorized: no token, or none that is valid.
        """
        if not self.locked:
            return ANYBODY
        if header is None:
            raise Unauthorized(
                "This Flow asks for a token. Got none. Send the header `authorization: token <your token>`."
            )
        scheme, _, secret = (header if isinstance(header, bytes) else header.encode()).strip().partition(b" ")
        if scheme.lower() not in (b"token", b"bearer"):
            raise Unauthorized("The header must read `authorization: token <your token>`. Got another form.")
        shown = digest_of(secret.strip())
        # compare_digest takes the same time wherever the first difference is, so that nobody can guess by letters
        found = [token for token in (*self._fixed, *self._filed) if hmac.compare_digest(token.digest, shown)]
        if not found:
            raise Unauthorized("The token must be one of this Flow's. Got another. Ask its owner for one.")
        if (state := found[0].state(time.time())) != "valid":
            raise Unauthorized(f"The token must be valid. Got {found[0].name!r}, which is {state}. Ask for a new one.")
        return Caller(found[0].name, found[0].role)

    def record(self, entry: Entry, status: int) -> None:
        """Write an entry into the audit log; where that fails, the gateway's own log says so."""
        try:
            self.audit.write(
                token=entry.caller.name,
                role=str(entry.caller.role),
                transport=entry.transport,
                request=entry.request,
                endpoint=entry.endpoint,
                documents=entry.documents,
                status=status,
            )
        except OSError as error:
            self._log.error(f"the audit log cannot be written: {error}")

    def _read(self) -> None:
        """Read the file again where it has changed."""
        if self._file is None:
            return
        try:
            found = self._file.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        except FileNotFoundError:
            seen = None
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._filed = self._file.read()
            self._locked = self._locked or bool(self._filed)
        except (FinetunerError, OSError) as error:  # then nobody enters by the file
            self._log.error(f"the tokens cannot be read: {error}")
            self._filed, self._locked = [], True


@dataclass
class Entry:
    """One request that has come in."""

    access: Access
    caller: Caller
    transport: str
    request: str
    """Of HTTP, its method and path."""
    endpoint: str = ""
    """Of the Flow, where it is known."""
    documents: int | None = None
    """How many it holds, where that is known."""
    needed: Role = field(default=Role.READ, init=False)

    def require(self, role: Role, what: str) -> None:
        """Refuse a caller whose role is less than `role`.

        Raises:
            Forbidden: with `what` in its message.
        """
        self.needed = max(self.needed, role)
        if self.caller.role < role:
            raise Forbidden(
                f"role must be {role} for {what!r:.80}. Got {self.caller.role}, of the token {self.caller.name!r}. "
                "Ask the Flow's owner for another token."
            )

    def close(self, status: Callable[[], int]) -> None:
        """Write down what needed more than `read`, with how it ended as HTTP has it."""
        if self.needed > Role.READ:
            self.access.record(self, status())


def _checked(secret: object) -> bytes:
    if not (isinstance(secret, str) and secret and all("!" <= letter <= "~" for letter in secret)):
        raise InvalidInput(
            "The gateway's token must be one or more visible ASCII characters without spaces. "
            f"Got {type(secret).__name__} of another kind. Choose another token; set it by the environment "
            "variable FINETUNER_TOKEN, since Jina turns digits in YAML into numbers."
        )
    return secret.encode()
