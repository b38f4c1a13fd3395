"""What the gateway counts for Prometheus; Jina serves it on the gateway's monitoring port."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from finetuner.contract import wire

# A label must not grow with what callers invent, so every path that the contract does not name is "other".
ENDPOINTS = frozenset(value for value in vars(wire).values() if isinstance(value, str) and value.startswith("/"))


class GatewayMetrics:
    """Counters of the gateway.

    Args:
        registry: Jina's registry for this process; None (monitoring is off) counts into a private one.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self._requests = Counter(
            "finetuner_gateway_requests",
            "Requests by protocol, endpoint and outcome",
            ["protocol", "endpoint", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "finetuner_gateway_refused", "Calls without the right token", ["protocol"], registry=registry
        )
        self.canary = Gauge(
            "finetuner_gateway_canary",
            "1 where the last canary came back, 0 where not; health checks send them",
            ["encoder"],
            registry=registry,
        )
        for protocol in ("grpc", "http"):
            self._refused.labels(protocol)  # a counter that starts at 0 can be alerted on

    def answered(self, protocol: str, endpoint: str, outcome: str, *, known: bool = False) -> None:
        """Count one request.

        Args:
            protocol: 'grpc' or 'http'.
            endpoint: its path.
            outcome: 'ok', 'refused' (the caller's fault) or 'failed'.
            known: whether the path is one of few, also where the contract does not name it.
        """
        label = endpoint if known or endpoint in ENDPOINTS else "other"
        self._requests.labels(protocol, label, outcome).inc()

    def refused(self, protocol: str) -> None:
        """Count one call without the right token."""
        self._refused.labels(protocol).inc()
