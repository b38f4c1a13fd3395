"""Why the gateway is not asked for /healthz: it must be there when no encoder is."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from finetuner.health import problem
from tests.flows.rooms_apart import RoomsApart


@pytest.mark.flow
@pytest.mark.slow
def test_the_gateway_serves_while_no_encoder_does(tmp_path: Path) -> None:
    """Somebody must promote another model in the place of one that the encoders cannot load."""
    names = ("gateway", "trainer", "evaluator", "text_encoder", "vision_encoder", "indexer")
    apart = RoomsApart(tmp_path, *names, settings={"gateway": ["ready_timeout=1"]})
    apart.start("gateway")
    try:
        deadline = time.monotonic() + 200
        while found := problem(f"grpc://{apart.address('gateway')}"):
            assert time.monotonic() < deadline, f"{found}\n{apart.log('gateway').read_text()}"
            time.sleep(0.2)
        page, health = (httpx.get(f"http://127.0.0.1:{apart.http}{path}") for path in ("/", "/healthz"))
        assert (page.status_code, health.status_code) == (200, 503)
        assert "text encoder" in health.json()["detail"]
    finally:
        apart.__exit__()
