"""The metrics of a lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from finetuner.executors.encoder.lane.metrics import MOST_ARTIFACTS, OTHER, LaneMetrics
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import Start
from tests.encoder.lane.gate import TEXTS, send, texts


def test_waits_batches_and_passes_are_measured(start: Start, workspace: Workspace) -> None:
    room = start(TextEncoder, workspace, batch_size=8)
    asyncio.run(send(room, texts(TEXTS)))
    value: Callable[..., float | None] = room.registry.get_sample_value
    passes = value("finetuner_batch_size_count")
    assert passes is not None
    assert passes >= 3
    assert value("finetuner_wait_seconds_count") == passes
    assert 1 <= (value("finetuner_decode_seconds_count") or 0) <= passes
    assert value("finetuner_batch_size_sum") == 20
    assert value("finetuner_inference_seconds_count") == passes
    assert value("finetuner_queue_documents") == 0
    assert value("finetuner_model_loads_total", {"outcome": "ok"}) == 1
    assert value("finetuner_model_bytes") > 1e6
    assert value("finetuner_artifact_documents_total", {"artifact": "clip-mini"}) == 20


def test_the_number_of_artifacts_in_the_metrics_is_bounded(workspace: Workspace) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    metrics = LaneMetrics(registry)
    for number in range(MOST_ARTIFACTS + 5):
        metrics.answered(f"{number:024x}", 1)
    assert registry.get_sample_value("finetuner_artifact_documents_total", {"artifact": OTHER}) == 5
