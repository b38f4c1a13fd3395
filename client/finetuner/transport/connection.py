"""The client's connection to a Flow: posts DocumentArrays and raises exceptions of `finetuner.exceptions`."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..contract import wire
from ..contract.environment import CA
from ..contract.values import plain
from ..exceptions import InvalidInput
from . import over_grpc, over_http
from .errors import unbound

if TYPE_CHECKING:
    from docarray import DocumentArray

    from .over_grpc import GrpcAnswer
    from .over_http import HttpAnswer

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
        replies = self.ask(endpoint, documents, parameters).replies()
        if not replies:
            raise unbound(endpoint, self.host)
        return wire.read_reply(replies[0])

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
        return self.ask(endpoint, documents, parameters or {}).documents()

    def ask(
        self, endpoint: str, documents: DocumentArray | None, parameters: dict[str, Any]
    ) -> GrpcAnswer | HttpAnswer:
        """Send one request. The answer holds replies or documents, converted when they are asked for.

        Raises:
            FinetunerError: see `post`.
        """
        sent = {name: plain(value, name, sets=True) for name, value in parameters.items()}
        docs = b"" if documents is None or not len(documents) else documents.to_protobuf().SerializeToString()
        ask = over_http.ask if self.host.startswith("http") else over_grpc.ask
        return ask(self.host, self.token, endpoint, docs, sent)


@functools.cache
def _trust(file: str) -> Any:
    """Trust the certificates of a file in this process, beside those already trusted.

    Returns:
        The temporary file with all of them. It exists as long as this object.
    """
    import ssl

    import certifi

    try:
        own = Path(file).read_bytes()
        ssl.create_default_context().load_verify_locations(file)
    except OSError as error:  # ssl's errors too
        raise InvalidInput(f"${CA} must be a file of certificates, PEM. Got {file}: {error.strerror}.") from None
    others = Path(os.environ.get("SSL_CERT_FILE") or certifi.where()).read_bytes()
    bundle = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115  # needed until this process ends
    bundle.write(others + b"\n" + own)
    bundle.flush()
    os.environ.update(dict.fromkeys(TRUSTED, bundle.name))
    return bundle
