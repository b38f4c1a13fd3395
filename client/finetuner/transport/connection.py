"""The client's connection to a Flow: posts DocumentArrays and raises exceptions of `finetuner.exceptions`."""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import warnings
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ..contract import wire
from ..contract.environment import CA
from ..contract.values import plain
from ..exceptions import FinetunerError, InvalidInput
from .errors import free_channel, translated, unbound

if TYPE_CHECKING:
    from docarray import DocumentArray

Result = TypeVar("Result")

DEFAULT_HOST = "grpc://127.0.0.1:51000"
SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}  # scheme -> TLS
# Variables with the certificates that gRPC, Python's ssl and requests (for DocArray's push) trust.
TRUSTED = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
NO_TELEMETRY = {"JINA_OPTOUT_TELEMETRY": "1"}  # Jina reports every client and Flow to its makers otherwise


class Connection:
    """The address and token of a Flow.

    With TLS (grpcs, https), $FINETUNER_CA names a file of certificates to trust in addition to the machine's own. For
    this, the variables in TRUSTED are set in this process. gRPC reads its variable once, at the first connection.

    Args:
        host: 'grpc://HOST:PORT' (or grpcs, http, https). 'HOST:PORT' means gRPC.
        token: sent with each request; '' for none.

    Raises:
        InvalidInput: an invalid address, or a wrong file in $FINETUNER_CA.
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
        """Call a control endpoint without documents and return its value.

        Raises:
            FinetunerError: see `post`, or an error of the class that the room named.
        """
        return self.send(endpoint, None, **parameters)

    def send(self, endpoint: str, documents: DocumentArray | None, **parameters: Any) -> Any:
        """Send documents to a control endpoint and return its value.

        Raises:
            NotFound: no room of the Flow binds the endpoint.
            FinetunerError: see `post`, or an error of the class that the room named.
        """
        answer = self.post(endpoint, documents, parameters)
        if not len(answer):
            raise unbound(endpoint, self.host)
        return wire.read_reply(answer[0])

    def post(
        self, endpoint: str, documents: DocumentArray | None = None, parameters: dict[str, Any] | None = None
    ) -> DocumentArray:
        """Post documents in one request and return the Flow's answer.

        Raises:
            InvalidInput: a parameter that the wire cannot carry; see `plain`. Nothing is sent.
            FlowUnreachable: no Flow answers at the host, or one of its rooms is down.
            Unauthorized: the Flow needs a token, or another one.
            Forbidden: the token's role does not allow the request.
            ResourceExhausted: too many requests per second.
            FinetunerError: another error, of the class that the gateway named.
        """
        authorization = f"token {self.token}"
        sent = {name: plain(value, name, sets=True) for name, value in (parameters or {}).items()}
        options: dict[str, Any] = {"request_size": -1, "parameters": sent or None}
        if self.host.startswith("http"):
            options["headers"] = {"Authorization": authorization} if self.token else {}
        else:
            options["metadata"] = (("authorization", authorization),) if self.token else ()
            options["stream"] = False  # a stream refused before its first request reports INTERNAL, without the reason
        answer = _run(self._answer(endpoint, documents if documents is not None else [], options))
        if isinstance(answer, FinetunerError):
            raise answer
        return answer

    async def _answer(self, endpoint: str, documents: Any, options: dict[str, Any]) -> DocumentArray | FinetunerError:
        """Return the Flow's answer, or the exception to raise.

        The error is read here, because Python may replace its context when it leaves the event loop. Jina's exception
        keeps gRPC's error there.
        """
        from docarray import DocumentArray

        answer = DocumentArray()
        try:
            async for part in self._client.post(endpoint, documents, **options):
                answer.extend(part)
        except Exception as error:
            free_channel(error)
            raised = translated(error, endpoint, self.host)
            raised.__cause__ = error
            return raised
        return answer

    @functools.cached_property
    def _client(self) -> Any:
        """Jina's asynchronous client, kept because making one takes milliseconds.

        The client opens a connection for each request. An open connection would hang processes that are forked from
        this one, such as rooms.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # jina imports it
            import jina
        os.environ.update(NO_TELEMETRY)
        parts = urlsplit(self.host)
        protocol = "http" if parts.scheme.startswith("http") else "grpc"
        secure = SCHEMES[parts.scheme]
        client = jina.Client(host=parts.hostname, port=parts.port, protocol=protocol, tls=secure, asyncio=True)
        client.logger.logger.disabled = True  # `post` raises the errors that it would log
        return client


def _run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine. In a thread that already runs an event loop, as a notebook does, start another.

    Jina's own client would start such a thread too, but lose the exception in it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@functools.cache
def _trust(file: str) -> Any:
    """Trust the certificates of a file in this process, beside those already trusted.

    Returns:
        The temporary file with all of them. It exists as long as this object.
    """
    import certifi
    from aiohttp import connector  # used by jina; it has loaded its certificates at import

    try:
        own = Path(file).read_bytes()
        connector._SSL_CONTEXT_VERIFIED.load_verify_locations(file)
    except OSError as error:  # ssl's errors too
        raise InvalidInput(f"${CA} must be a file of certificates, PEM. Got {file}: {error.strerror}.") from None
    others = Path(os.environ.get("SSL_CERT_FILE") or certifi.where()).read_bytes()
    bundle = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115  # needed until this process ends
    bundle.write(others + b"\n" + own)
    bundle.flush()
    os.environ.update(dict.fromkeys(TRUSTED, bundle.name))
    return bundle
