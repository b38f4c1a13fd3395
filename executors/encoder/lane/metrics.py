"""Prometheus metrics of a lane; flows/README.md lists every name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MOST_ARTIFACTS = 50  # with their own label; callers who name many artifacts cannot fill the memory
OTHER = "other"


class LaneMetrics:
    """The metrics of one lane.

    Args:
        registry: registry of the room. It takes the metrics of one lane only.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, buckets=SECONDS, registry=registry)

        self.waiting = Gauge("finetuner_queue_documents", "Documents admitted and not answered", registry=registry)
        self.wait = seconds("finetuner_wait_seconds", "From a request's arrival to a forward pass of its documents")
        self.batch = Histogram("finetuner_batch_size", "Documents a pass", buckets=SIZES, registry=registry)
        self.decode = seconds("finetuner_decode_seconds", "Decoding an image, or all that is prepared at once")
        self.fetch = seconds("finetuner_fetch_seconds", "Fetching an image by URI")
        self.inference = seconds("finetuner_inference_seconds", "A forward pass")
        self.load = seconds("finetuner_model_load_seconds", "Loading a model, warm-up and canary included")
        self.loads = Counter("finetuner_model_loads", "Models loaded, by outcome", ["outcome"], registry=registry)
        for outcome in ("ok", "error"):  # a counter must exist at 0 for its first event to show
            self.loads.labels(outcome)
        self.models = Gauge("finetuner_models_loaded", "Models in memory", registry=registry)
        self.model_bytes = Gauge("finetuner_model_bytes", "Their weights", registry=registry)
        self._errors = Counter("finetuner_errors", "Documents refused, by error", ["type"], registry=registry)
        self._artifacts = Counter(
            "finetuner_artifact_documents", "Documents answered, by model", ["artifact"], registry=registry
        )
        self._named: set[str] = set()
        self._cached = Counter(
            "finetuner_cache_documents", "Documents looked up in the cache, by outcome", ["outcome"], registry=registry
        )

    def cached(self, hits: int, misses: int) -> None:
        """Count documents whose vectors were known, and those that were not."""
        self._cached.labels("hit").inc(hits)
        self._cached.labels("miss").inc(misses)

    def answered(self, artifact: str, documents: int) -> None:
        """Count documents by their model. Models past `MOST_ARTIFACTS` are counted together."""
        if artifact not in self._named and len(self._named) < MOST_ARTIFACTS:
            self._named.add(artifact)
        self._artifacts.labels(artifact if artifact in self._named else OTHER).inc(documents)

    def refused(self, error: Exception) -> None:
        """Count one document by the class of its error."""
        self._errors.labels(type(error).__name__).inc()
