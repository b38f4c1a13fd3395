"""Rooms killed under load: a replica's neighbour takes over, a room that is alone fails at once, and all come back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from docarray import Document, DocumentArray
from jina import Client

from finetuner.contract.wire import ENCODE
from finetuner.exceptions import FlowUnreachable
from finetuner.executors.gateway.flow.health import image
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file
from finetuner.transport.connection import Connection

CLIENTS = 6
BROKEN = "Internal error from Core"  # of gRPC's client, for a call whose connection breaks while it is written
ANSWER_SECONDS = 60.0  # a request without an answer by then hangs
BACK_SECONDS = 200.0
DOCUMENTS = {"text": {"text": "a red dress"}, "image": {"blob": image(), "mime_type": "image/png"}}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFlow]:
    """The real Flow's encoders: two replicas of the text encoder, one vision encoder."""
    folder = tmp_path_factory.mktemp("flows")
    content = yaml.safe_load(flow_file().read_text())
    content["executors"] = [room for room in content["executors"] if room["name"].endswith("_encoder")]
    for room in [content["gateway"], *content["executors"]]:
        room["uses"] = str((flow_file().parent / room["uses"]).resolve())
    content["executors"][0]["replicas"] = 2
    (folder / "finetuner.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    with RunningFlow(folder / "workspace", flow=folder / "finetuner.yml") as running:
        yield running


def process_at(flow: RunningFlow, url: str) -> int:
    """Return which process of the Flow listens at this address."""
    port = int(httpx.URL(url).port or 0)
    for process in psutil.Process(flow.pid).children(recursive=True):
        if any(each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in process.net_connections()):
            return process.pid
    raise AssertionError(f"nobody listens at {url}")


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    process.wait(60)


@dataclass
class Load:
    """Clients that send one request after the other, each a text or each an image."""

    flow: RunningFlow
    outcomes: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in DOCUMENTS})
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    ended: bool = False

    async def client(self, kind: str) -> None:
        client = Client(host=self.flow.host, asyncio=True)
        client.logger.logger.disabled = True
        while not self.ended:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self.outcomes[kind].append(await self.send(client, kind))
            except ConnectionError as error:
                self.outcomes[kind].append("unavailable" if "StatusCode.UNAVAILABLE" in str(error) else repr(error))
            except Exception as error:
                self.outcomes[kind].append("unavailable" if BROKEN in repr(error) else repr(error))

    async def send(self, client: Any, kind: str) -> str:
        asked = DocumentArray([Document(**DOCUMENTS[kind])])
        answers = [answer async for answer in client.post(ENCODE, asked, return_responses=False)]
        vector = answers[0][0].embedding
        expected = self.expected.setdefault(kind, vector)
        return "right" if vector is not None and np.allclose(vector, expected, atol=1e-5) else f"wrong: {vector}"

    async def answered(self, kind: str, more: int = 20) -> None:
        """Wait until so many more requests have been answered right."""
        start, deadline = self.outcomes[kind].count("right"), time.monotonic() + BACK_SECONDS
        while self.outcomes[kind].count("right") < start + more:
            assert time.monotonic() < deadline, f"no answers for {kind}: {Counter(self.outcomes[kind])}"
            await asyncio.sleep(0.05)

    async def back(self) -> None:
        """Wait until every replica of every room is up."""
        deadline = time.monotonic() + BACK_SECONDS
        async with httpx.AsyncClient(timeout=BACK_SECONDS) as probe:
            while True:
                try:
                    state = (await probe.get(f"{self.flow.http}/healthz")).json()
                except httpx.TransportError:
                    state = {"status": "no gateway"}
                if state["status"] == "ok":
                    return
                assert time.monotonic() < deadline, state
                await asyncio.sleep(0.1)


async def killed_under_load(flow: RunningFlow, url: str) -> dict[str, Counter[str]]:
    """Kill who listens at `url` while clients send; return what came back until all was up and answered again."""
    load = Load(flow)
    clients = [asyncio.create_task(load.client(kind)) for kind in DOCUMENTS for _ in range(CLIENTS // 2)]
    try:
        await asyncio.gather(*(load.answered(kind) for kind in DOCUMENTS))
        killed = process_at(flow, url)
        await asyncio.to_thread(kill, killed)
        await load.back()
        await asyncio.gather(*(load.answered(kind) for kind in DOCUMENTS))
        assert process_at(flow, url) != killed
    finally:
        load.ended = True
        await asyncio.gather(*clients)
    return {kind: Counter(outcomes) for kind, outcomes in load.outcomes.items()}


def test_the_other_replica_answers_for_one_that_is_killed(encoders: RunningFlow) -> None:
    outcomes = asyncio.run(killed_under_load(encoders, encoders.metrics["text_encoder"]))
    assert set(outcomes["image"]) == {"right"}, "its neighbour is not disturbed"
    assert set(outcomes["text"]) <= {"right", "unavailable"}
    assert outcomes["text"]["unavailable"] <= CLIENTS, "what was under way at most"
    assert "text_encoder/rep-0 has ended (killed by SIGKILL). It restarts now." in encoders.log.read_text()


def test_a_room_that_is_alone_fails_at_once_and_comes_back(encoders: RunningFlow) -> None:
    outcomes = asyncio.run(killed_under_load(encoders, encoders.metrics["vision_encoder"]))
    assert set(outcomes["image"]) == {"right", "unavailable"}
    assert set(outcomes["text"]) == {"right"}, "a text does not visit the vision encoder"


def test_the_gateway_comes_back(encoders: RunningFlow) -> None:
    outcomes = asyncio.run(killed_under_load(encoders, encoders.http))
    for kind in DOCUMENTS:
        assert set(outcomes[kind]) == {"right", "unavailable"}


def test_a_room_that_is_down_is_named(encoders: RunningFlow) -> None:
    connection = Connection(encoders.host)
    kill(process_at(encoders, encoders.metrics["vision_encoder"]))
    with pytest.raises(FlowUnreachable, match=r"vision_encoder must answer /encode\. It is down"):
        connection.post(ENCODE, DocumentArray([Document(**DOCUMENTS["image"])]))
    state = httpx.get(f"{encoders.http}/healthz", timeout=BACK_SECONDS)
    assert state.status_code == 503
    assert state.json()["rooms"] == {
        "text_encoder": {"up": 2, "replicas": 2},
        "vision_encoder": {"up": 0, "replicas": 1},
    }
    assert state.json()["detail"].endswith("vision_encoder: 1 of 1 down")
    asyncio.run(Load(encoders).back())


def test_nothing_comes_back_once_the_flow_stops(encoders: RunningFlow) -> None:
    for process in psutil.Process(encoders.pid).children(recursive=True):
        if any(each.status == psutil.CONN_LISTEN for each in process.net_connections()):
            process.kill()  # so that all of them are being started again
    encoders.stop()
    assert encoders._remaining() == []
    left = encoders.log.read_text().partition("Stopping the Flow")[2]
    assert "Traceback" not in left, left
