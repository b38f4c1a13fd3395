"""The way to a Flow: posts of DocumentArrays, with one kind of error on this side."""

from __future__ import annotations

import functools
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..contract import wire
from ..contract.environment import CA
from ..exceptions import FinetunerServerError, FlowUnreachable, Forbidden, InvalidInput, ResourceExhausted, Unauthorized

if TYPE_CHECKING:
    from docarray import DocumentArray

DEFAULT_HOST = "grpc://127.0.0.1:51000"
SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}
# Where gRPC, Python's ssl and requests (DocArray's push) look for theirs.
TRUSTED = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
NO_TELEMETRY = {"JINA_OPTOUT_TELEMETRY": "1"}  # or Jina tells its makers of every client and Flow


class Connection:
    """A Flow's address and token.

    For TLS (grpcs, https), $FINETUNER_CA names a file of certificates to trust beside the machine's own: the variables
    of TRUSTED are set, in this process. gRPC reads its one once, so it must be there before the first connection.

    Args:
        host: 'grpc://HOST:PORT' (or grpcs, http, https), or 'HOST:PORT', which is gRPC.
        token: sent with each request; '' for none.

    Raises:
        InvalidInput: an address of another form, or no file at $FINETUNER_CA.
    """

    def __init__(self, host: str = DEFAULT_HOST, token: str = "") -> None:
        address = host if "://" in host else f"grpc://{host}"
        try:
            parts = urlsplit(address)
            valid = parts.scheme in SCHEMES and parts.hostname and parts.port
        except ValueError:
            valid = False
        if not valid:
            raise InvalidInput(f"host must be like {DEFAULT_HOST} (grpc, grpcs, http or https). Got {host!r}.")
        if SCHEMES[parts.scheme] and os.environ.get(CA):
            _trust(os.environ[CA])
        self.host = address
        self.token = token

    def __repr__(self) -> str:
        return f"Connection({self.host!r})"

    def call(self, endpoint: str, **parameters: Any) -> Any:
        """Ask a control endpoint and return its value.

        Raises:
            FinetunerError: what the server says, or FlowUnreachable.
        """
        return self.send(endpoint, None, **parameters)

    def send(self, endpoint: str, documents: DocumentArray | None, **parameters: Any) -> Any:
        """Send documents to a control endpoint and return its value."""
        answer = self.post(endpoint, documents, parameters)
        if not len(answer):
            raise FinetunerServerError(f"the Flow at {self.host} has no room that answers {endpoint}. Check its YAML.")
        return wire.read_reply(answer[0])

    def post(
        self, endpoint: str, documents: DocumentArray | None = None, parameters: dict[str, Any] | None = None
    ) -> DocumentArray:
        """Post documents in one request and return the Flow's answer.

        Raises:
            FlowUnreachable: nothing answers at the host.
            Unauthorized: the Flow asks for another token.
            FinetunerServerError: anything else that went wrong on the way.
        """
        from docarray import DocumentArray

        secret = f"token {self.token}"
        options: dict[str, Any] = {"request_size": -1, "parameters": parameters or None}
        if self.host.startswith("http"):
            options["headers"] = {"Authorization": secret} if self.token else {}
        else:
            options["metadata"] = (("authorization", secret),) if self.token else ()
            options["stream"] = False  # a stream that is refused before its request was sent says INTERNAL, not why
        try:
            answer = self._client.post(endpoint, documents if documents is not None else [], **options)
        except Exception as error:
            _let_go(error)
            raise self._translated(endpoint, error) from error
        return answer if answer is not None else DocumentArray()

    @functools.cached_property
    def _client(self) -> Any:
        """Jina's client: making one takes milliseconds.

        It opens a connection for each request. One that stays open hangs what is forked from this process, rooms too.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # jina's own import of it
            import jina
        os.environ.update(NO_TELEMETRY)
        parts = urlsplit(self.host)
        protocol = "http" if parts.scheme.startswith("http") else "grpc"
        client = jina.Client(host=parts.hostname, port=parts.port, protocol=protocol, tls=SCHEMES[parts.scheme])
        client.logger.logger.disabled = True  # what it would log is raised by `post`
        return client

    def _translated(self, endpoint: str, error: Exception) -> Exception:
        text = " ".join(str(error).split())
        answer = error.args[0] if error.args else None  # jina's HTTP client keeps the body and loses the status
        detail = str(answer.get("detail", "")) if isinstance(error, ValueError) and isinstance(answer, dict) else ""
        refused = re.search(r"gRPC error: StatusCode\.(\w+) (.+?)( None| trailing_metadata=.*)?$", text)
        code, said = (refused[1], refused[2]) if refused else ("", detail or text)
        if code == "PERMISSION_DENIED" or detail.startswith("role must"):
            return Forbidden(said)
        if "requests of a token must be fewer" in said:
            return ResourceExhausted(said)
        if code == "UNAUTHENTICATED" or "token" in detail:
            return Unauthorized(f"token must be the one that the Flow at {self.host} asks for. Got another or none.")
        if room := re.search(r"Communication error with deployment (\w+)", said):
            return FlowUnreachable(
                f"{room[1]} must answer {endpoint} in the Flow at {self.host}. It is down. It is started again: try "
                "later, and see /healthz."
            )
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return FlowUnreachable(
                f"the certificate of {self.host} must be of that name and from a known authority. It is not. "
                f"Set {CA} to a file with the certificate, or with its authority's."
            )
        if code == "UNAVAILABLE" or (isinstance(error, ConnectionError) and not code) or "Cannot connect" in said:
            return FlowUnreachable(
                f"a Flow must answer at {self.host}. None does. Start one with `finetuner up`, or pass host=..."
            )
        return FinetunerServerError(f"{endpoint} failed at {self.host}: {said[:500]}")


def _let_go(error: BaseException | None) -> None:
    """Free gRPC's channel, which the frames of an error hold as long as somebody holds the error.

    A process that is forked while there is a channel, as a Flow's rooms are, waits for a thread that it does not have.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


@functools.cache
def _trust(file: str) -> Any:
    """Trust a file's certificates beside those that are trusted already, in this process; return what must be kept."""
    import certifi
    from aiohttp import connector  # which jina uses, and which has looked for its certificates when it was imported

    try:
        own = Path(file).read_bytes()
        connector._SSL_CONTEXT_VERIFIED.load_verify_locations(file)
    except OSError as error:  # ssl's errors too
        raise InvalidInput(f"${CA} must be a file of certificates, PEM. Got {file}: {error.strerror}.") from None
    others = Path(os.environ.get("SSL_CERT_FILE") or certifi.where()).read_bytes()
    bundle = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115  # it is there as long as this process
    bundle.write(others + b"\n" + own)
    bundle.flush()
    os.environ.update(dict.fromkeys(TRUSTED, bundle.name))
    return bundle
