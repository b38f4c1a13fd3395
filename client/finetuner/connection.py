"""The way to a Flow: posts of DocumentArrays, with one kind of error on this side."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import wire
from .exceptions import FinetunerServerError, FlowUnreachable, InvalidInput, Unauthorized

if TYPE_CHECKING:
    from docarray import DocumentArray

DEFAULT_HOST = "grpc://127.0.0.1:51000"
SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}


class Connection:
    """A Flow's address and token.

    Args:
        host: 'grpc://HOST:PORT' (or grpcs, http, https), or 'HOST:PORT', which is gRPC.
        token: sent with each request; '' for none.

    Raises:
        InvalidInput: an address of another form.
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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # jina's own import of it
            import jina
        from docarray import DocumentArray

        secret = f"token {self.token}"
        parts = urlsplit(self.host)
        options: dict[str, Any] = {"request_size": -1, "parameters": parameters or None}
        if parts.scheme.startswith("http"):
            protocol, options["headers"] = "http", {"Authorization": secret} if self.token else {}
        else:
            protocol, options["metadata"] = "grpc", (("authorization", secret),) if self.token else ()
        client = jina.Client(
            host=parts.hostname,
            port=parts.port,
            protocol=protocol,
            tls=SCHEMES[parts.scheme],
        )
        client.logger.logger.disabled = True  # what it would log is raised below
        try:
            answer = client.post(endpoint, documents if documents is not None else [], **options)
        except Exception as error:
            raise self._translated(endpoint, error) from error
        return answer if answer is not None else DocumentArray()

    def _translated(self, endpoint: str, error: Exception) -> Exception:
        text = " ".join(str(error).split())
        answer = error.args[0] if error.args else None  # jina's HTTP client keeps the body and loses the status
        detail = answer.get("detail") if isinstance(error, ValueError) and isinstance(answer, dict) else ""
        if "StatusCode.UNAUTHENTICATED" in text or "token" in str(detail):
            return Unauthorized(f"token must be the one that the Flow at {self.host} asks for. Got another or none.")
        if room := re.search(r"Communication error with deployment (\w+)", text):
            return FlowUnreachable(
                f"{room[1]} must answer {endpoint} in the Flow at {self.host}. It is down. It is started again: try "
                "later, and see /healthz."
            )
        if isinstance(error, ConnectionError) or "Cannot connect" in text:
            return FlowUnreachable(
                f"a Flow must answer at {self.host}. None does. Start one with `finetuner up`, or pass host=..."
            )
        return FinetunerServerError(f"{endpoint} failed at {self.host}: {text[:500]}")
