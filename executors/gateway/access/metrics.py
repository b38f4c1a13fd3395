"""The gateway's Prometheus metrics; Jina serves them on the gateway's monitoring port."""

from __future__ import annotations

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge

from finetuner.contract import wire

# Callers must not be able to add label values, so every path outside the contract counts as "other".
ENDPOINTS = frozenset(value for value in vars(wire).values() if isinstance(value, str) and value.startswith("/"))


class GatewayMetrics:
    """Counters of the gateway.

    Args:
        registry: Jina's registry of this process; None, if monitoring is off, for a private one.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self._requests = Counter(
            "finetuner_gateway_requests",
            "Requests by protocol, endpoint and outcome",
            ["protocol", "endpoint", "outcome"],
            registry=registry,
        )
        self._counter = cache(self._requests.labels)  # which checks and joins its values at every call
        self._refused = Counter(
            "finetuner_gateway_refused", "Calls without a valid token", ["protocol"], registry=registry
        )
        self.canary = Gauge(
            "finetuner_gateway_canary",
            "1 if the last canary came back, else 0; health checks send canaries",
            ["encoder"],
            registry=registry,
        )
        for protocol in ("grpc", "http"):
            self._refused.labels(protocol)  # an alert needs a counter that starts at 0

    def answered(self, protocol: str, endpoint: str, outcome: str, *, known: bool = False) -> None:
        """Count one request.

        Args:
            protocol: 'grpc' or 'http'.
            endpoint: its path.
            outcome: 'ok', 'refused' (the caller's fault) or 'failed'.
            known: whether the path is one of a fixed set, although the contract does not name it.
        """
        label = endpoint if known or endpoint in ENDPOINTS else "other"
        self._counter(protocol, label, outcome).inc()

    def refused(self, protocol: str) -> None:
        """Count one call without a valid token."""
        self._refused.labels(protocol).inc()
