"""Access control: the same tokens, roles and limits for gRPC and HTTP.

A Flow without any token admits every request that reaches its port; the gateway then listens on loopback only. As
soon as there is a token, every request needs one. That holds when the last token is revoked or its file is gone.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from jina.logging.logger import JinaLogger

from finetuner.database.tokens import WatchedTokens, watched_tokens
from finetuner.exceptions import FinetunerError, Forbidden, InvalidInput, ResourceExhausted, Unauthorized
from finetuner.workspace.tokens import ENVIRONMENT, ROOMS, Role, Token, digest_of, is_loopback, rooms_secret

from .audit import Audit
from .guesses import Guesses
from .peers import address_of
from .rate import TokenBuckets
from .tally import MINUTE, Tally
from .turns import Turns


@dataclass(frozen=True)
class Caller:
    """The sender of a request."""

    name: str
    """Name of its token; '' in a Flow without tokens."""
    role: Role


SCHEMES = (b"token", b"bearer")  # a token alone is accepted as well: clip-client sends $CLIP_AUTH_TOKEN as it stands
MIN_SECRET = 8  # characters; `openssl rand -hex 24` makes 48
MAX_REFUSED = 60  # requests of a token per minute with an audit line of their own
ANYBODY = Caller("", Role.ADMIN)


CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Name of the token of the request that is answered here."""
PEER: ContextVar[str] = ContextVar("peer", default="")
"""Address and port of its caller: one connection."""


def who() -> str:
    """Return the caller of the request that is answered here: its token, or its connection in a Flow without tokens."""
    return CALLER.get() or PEER.get()


class WrongToken(Unauthorized):
    """The token belongs to nobody."""


class RateLimited(ResourceExhausted):
    """A token has sent more requests per second than it may, an address more wrong tokens, or too many requests wait.

    Args:
        message: one line.
        wait: seconds until the next request passes.
    """

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class Access:
    """The valid tokens of a Flow. They are read again when they change.

    Args:
        secret: an admin token from the environment or the YAML; visible ASCII characters.
        root: the workspace folder with the token file; None for a Flow that only has `secret`.
        rate_limit: requests per second for each token; 0 for no limit.
        host: address on which the gateway listens.
        wrong_tokens: wrong tokens per minute of each address; 0 for no limit.

    `root` is kept as it is. `last_used` has the last request of each token since the start, in seconds since the epoch.

    Raises:
        InvalidInput: a secret that no header can hold, a secret that YAML has turned into a number, or a host that
            other machines reach although there is no token.
    """

    def __init__(
        self,
        secret: str | None,
        root: Path | None = None,
        rate_limit: float = 0,
        host: str = "127.0.0.1",
        wrong_tokens: float = 0,
    ) -> None:
        self.audit = Audit(root)
        self.turns = Turns()
        self.root = root
        self.last_used: dict[str, float] = {}
        self._guesses = Guesses(wrong_tokens, lambda address, count: self._write(address=address, wrong_tokens=count))
        self._refused = TokenBuckets(MAX_REFUSED / MINUTE, burst=MINUTE)
        self._more_refused = Tally(lambda name, count: self._write(token=name, refused=count))
        self._log = JinaLogger("access")
        self._buckets = TokenBuckets(rate_limit)
        self._looked = False  # at the tokens, since the event loop has looked for more requests
        self._store = None if root is None else watched_tokens(root)
        self._version: object = None
        self._from_file: list[Token] = []
        self._fixed: list[Token] = []
        if root is not None:
            with suppress(OSError):  # a read-only workspace; such a Flow has no indexer, which needs this token
                self._fixed.append(Token(ROOMS, Role.READ, digest_of(rooms_secret(root).encode())))
        if secret is not None:
            self._fixed.append(Token(ENVIRONMENT, Role.ADMIN, digest_of(_checked(secret))))
        self._locked = secret is not None
        if not self.locked and not is_loopback(host):
            raise InvalidInput(
                f"host must be 127.0.0.1 in a Flow without a token, or everybody could use it. Got {host}. "
                "Make a token with `finetuner token create NAME --role admin`, or set FINETUNER_TOKEN."
            )

    @property
    def locked(self) -> bool:
        """Whether requests need a token."""
        self._read_file()
        return self._locked

    def admit(self, header: str | bytes | None, transport: str, request: str = "") -> Entry:
        """Admit a request, and count it against its token's rate limit.

        Args:
            header: the value of `authorization`.
            transport: 'grpc' or 'http'.
            request: method and path of an HTTP request, for the audit log.

        Raises:
            Unauthorized: no token, or an invalid one.
            RateLimited: the token has used up its requests.
        """
        caller = self.caller(header)
        if caller.name != ROOMS and (wait := self._buckets.wait(caller.name)):
            raise RateLimited(
                f"A token may send a limited number of requests per second. Got one more. Try again in {wait:.1f} s.",
                wait,
            )
        CALLER.set(caller.name)
        self.last_used[caller.name] = time.time()  # as many names as tokens
        return Entry(self, caller, transport, request)

    def caller(self, header: str | bytes | None) -> Caller:
        """Return the owner of the token in an `authorization` header.

        Raises:
            Unauthorized: no token, or an invalid one.
            DatabaseUnreachable: the database of the tokens has been away for too long.
        """
        if not self.locked:
            return ANYBODY
        if header is None:
            raise Unauthorized(
                "A request to this Flow needs a token. Got none. Pass token=... to finetuner.login, or send the header "
                "`authorization: token <your token>`."
            )
        words = (header if isinstance(header, bytes) else header.encode()).split()
        if len(words) == 2 and words[0].lower() in SCHEMES:
            del words[0]
        if len(words) != 1 or words[0].lower() in SCHEMES:
            raise Unauthorized(
                "The header must read `authorization: token <your token>`. Got another form. Add the token to it."
            )
        digest = digest_of(words[0])
        # compare_digest takes the same time for every wrong digest, so its timing leaks nothing
        found = [token for token in (*self._fixed, *self._from_file) if hmac.compare_digest(token.digest, digest)]
        if isinstance(self._store, WatchedTokens) and not (found and found[0] in self._fixed):
            self._store.require_known()
        if not found:
            raise WrongToken("The token must belong to this Flow. Got another one. Ask the Flow's owner for a token.")
        if (state := found[0].state(time.time())) != "valid":
            raise Unauthorized(
                f"The token must be valid. Got {found[0].name!r}, which is {state}. Ask the Flow's owner for a new one."
            )
        return Caller(found[0].name, found[0].role)

    def refusal(self, error: FinetunerError, peer: str) -> FinetunerError:
        """Count a refusal of `peer`, and return the error to answer with: RateLimited past the limit of wrong tokens.

        Args:
            error: the reason of the refusal.
            peer: the caller's address, as HTTP or gRPC has it.
        """
        if not isinstance(error, WrongToken) or not (wait := self._guesses.wait(address_of(peer))):
            return error
        return RateLimited(
            "An address may send a limited number of wrong tokens per minute. Got one more. Ask the Flow's owner for a "
            f"token, or try again in {wait:.1f} s.",
            wait,
        )

    def record(self, entry: Entry, status: int) -> None:
        """Write an entry into the audit log, or count it: refused requests must not push others out of the log."""
        if status >= 400 and self._refused.wait(entry.caller.name):
            self._more_refused.count(entry.caller.name)
            return
        self._write(
            token=entry.caller.name,
            role=str(entry.caller.role),
            transport=entry.transport,
            request=entry.request,
            endpoint=entry.endpoint,
            documents=entry.documents,
            status=status,
        )

    def close(self) -> None:
        """Write the counts of the last minute into the audit log, and stop looking for tokens."""
        if self._store is not None:
            self._store.close()
        self._guesses.tally.flush()
        self._more_refused.flush()

    def _write(self, **fields: object) -> None:
        """Write a line into the audit log. A failure to do so goes to the gateway's log."""
        try:
            self.audit.write(**fields)
        except OSError as error:
            self._log.error(f"Cannot write the audit log: {error}")

    def _look_again(self) -> None:
        self._looked = False

    def _read_file(self) -> None:
        """Read the tokens if they have changed. Requests that arrive at the same moment share one look at them."""
        if self._store is None or self._looked:
            return
        with suppress(RuntimeError):  # without an event loop, nothing says when the moment is over
            asyncio.get_running_loop().call_soon(self._look_again)
            self._looked = True
        version = self._store.version()
        if version == self._version:
            return
        self._version = version
        try:
            self._from_file = self._store.read()
            self._locked = self._locked or self._store.in_use
            for problem in self._store.problems():
                self._log.error(problem)
        except (FinetunerError, OSError) as error:  # from here on, no token of the file is valid
            self._log.error(f"Cannot read the tokens: {error}")
            self._from_file, self._locked = [], True


@dataclass
class Entry:
    """An admitted request."""

    access: Access
    caller: Caller
    transport: str
    request: str
    """Method and path of an HTTP request."""
    endpoint: str = ""
    """Endpoint of the Flow, '' if not known."""
    documents: int | None = None
    """Number of documents, None if not known."""
    needed: Role = field(default=Role.READ, init=False)

    def require(self, role: Role, request: str) -> None:
        """Refuse a caller whose role is below `role`.

        Args:
            role: the lowest sufficient role.
            request: for the message of the error.

        Raises:
            Forbidden
        """
        self.needed = max(self.needed, role)
        if self.caller.role < role:
            raise Forbidden(
                f"role must be {role} for {request!r:.80}. Got {self.caller.role}, of the token {self.caller.name!r}. "
                "Ask the Flow's owner for another token."
            )

    def close(self, status: Callable[[], int]) -> None:
        """Write a request that needed more than `read` into the audit log, with its HTTP status."""
        if self.needed > Role.READ:
            self.access.record(self, status())


def _checked(secret: object) -> bytes:
    long = isinstance(secret, str) and len(secret) >= MIN_SECRET
    if not (isinstance(secret, str) and long and all("!" <= letter <= "~" for letter in secret)):
        got = f"an unsuitable {type(secret).__name__}" if long or not isinstance(secret, str) else f"{len(secret)}"
        raise InvalidInput(
            f"The gateway's token must be {MIN_SECRET} or more visible ASCII characters without spaces. "
            f"Got {got}. Choose another token, and set it with the environment "
            "variable FINETUNER_TOKEN: Jina turns digits in YAML into numbers."
        )
    return secret.encode()
