"""The settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from finetuner.contract.checks import number, whole

from .flow.health import TIMEOUT


@dataclass(frozen=True)
class GatewaySettings:
    """Access and health.

    Raises:
        InvalidInput: a value that is not allowed.
    """

    token: str | None = None
    """An admin's token, which callers send as `authorization: token <t>`. None takes $FINETUNER_TOKEN."""
    workspace_url: str | None = None
    """Folder, or file:// URL, that all rooms of a Flow share. It holds the tokens and the audit log.

    None keeps neither."""
    rate_limit: float = 0
    """Requests per second of each token, 0 to 1e6, and twice as many at once. 0 sets no limit."""
    wrong_tokens: float = 60
    """Wrong tokens per minute of each address, 0 to 1e6; the next ones get 429, right ones pass. 0 sets no limit."""
    health_timeout: float = TIMEOUT
    """Seconds that an encoder has to answer `GET /healthz`."""
    ready_timeout: float = 240
    """Seconds, 0 to 1e5, that the gateway waits for encoders and indexer before it serves without them."""

    max_connections: int = 512
    """Connections at the same time on each port, 2 to 1e5; over HTTP, half of them from one address.

    The process needs as many open files."""
    max_waiting: int = 4096
    """Texts of short requests that wait for busy rooms at the same time, 1 to 1,000,000. The next one gets 429."""

    def __post_init__(self) -> None:
        whole("max_connections", self.max_connections, 2, 100_000)
        whole("max_waiting", self.max_waiting, 1, 1_000_000)
        number("ready_timeout", self.ready_timeout, 0, 1e5)
        number("rate_limit", self.rate_limit, 0, 1e6)
        number("wrong_tokens", self.wrong_tokens, 0, 1e6)
