"""flows/finetuner.yml, the real one: by `finetuner up` and by plain `jina flow`."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
from docarray import Document, DocumentArray
from jina import Client
from PIL import Image

from finetuner.contract.wire import ARTIFACT_TAG, ENCODE, INDEX, SEARCH, error_of
from finetuner.flow.running_flow import RunningFlow

from .plain_flow import PlainFlow

ROOMS = {"gateway", "trainer", "evaluator", "text_encoder", "vision_encoder", "indexer"}


def image(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def ask_everything(host: str) -> None:
    """What a user of the bare jina.Client does first."""
    client = Client(host=host)
    encoded = client.post(ENCODE, DocumentArray([Document(text="a red dress"), Document(blob=image("red"))]))
    assert [error_of(document) for document in encoded] == [None, None]
    assert encoded[0].embedding.shape == encoded[1].embedding.shape
    assert encoded[0].tags[ARTIFACT_TAG] == encoded[1].tags[ARTIFACT_TAG]
    images = DocumentArray([Document(id=colour, blob=image(colour)) for colour in ("red", "blue", "white")])
    assert all(error_of(document) is None for document in client.post(INDEX, images))
    (asked,) = client.post(SEARCH, DocumentArray([Document(blob=image("blue"))]), parameters={"limit": 2})
    assert error_of(asked) is None
    assert len(asked.matches) == 2
    assert asked.matches[0].id == "blue"
    (asked,) = client.post(SEARCH, DocumentArray([Document(text="a red dress")]), parameters={"limit": 1000})
    assert set(images[:, "id"]) <= set(asked.matches[:, "id"])  # the index may hold other tests' documents


def scrape(metrics: dict[str, str]) -> dict[str, str]:
    """Return what each room's port answers, which must be 200 with metrics of our own."""
    assert set(metrics) == ROOMS
    found = {}
    for room, url in metrics.items():
        answer = httpx.get(url)
        assert answer.status_code == 200, room
        assert "finetuner_" in answer.text, room
        found[room] = answer.text
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_bare_jina_client_encodes_indexes_and_searches(flow: RunningFlow, protocol: str) -> None:
    ask_everything(flow.host if protocol == "grpc" else flow.http)


def test_health_names_the_model(flow: RunningFlow) -> None:
    state = httpx.get(f"{flow.http}/healthz", timeout=60).json()
    assert state["status"] == "ok", state
    assert state["encoders"]["text"]["artifact"] == state["encoders"]["vision"]["artifact"]
    assert state["encoders"]["text"]["dim"] > 0


def visits(flow: RunningFlow) -> dict[str, float]:
    """Return how many requests each room has received, by Jina's own count."""
    lines = [(room, line) for room, text in scrape(flow.metrics).items() for line in text.splitlines()]
    counted = "jina_receiving_request_seconds_count"
    return {room: float(line.split()[-1]) for room, line in lines if line.startswith(counted)}


@pytest.mark.parametrize(
    ("endpoint", "rooms"),
    [
        (ENCODE, {"text_encoder"}),
        (SEARCH, {"text_encoder", "indexer"}),
        ("/runs/list", {"trainer"}),
    ],
)
def test_requests_visit_only_the_rooms_that_they_need(flow: RunningFlow, endpoint: str, rooms: set[str]) -> None:
    before = visits(flow)
    Client(host=flow.host).post(endpoint, DocumentArray([Document(text="a red dress")]))
    after = visits(flow)
    assert {room for room in ROOMS if after[room] > before[room]} == {"gateway", *rooms}


def test_a_broken_image_does_not_harm_its_neighbours(flow: RunningFlow) -> None:
    documents = DocumentArray([Document(blob=image("red")), Document(blob=b"no image"), Document(text="dress")])
    good, broken, text = Client(host=flow.host).post(ENCODE, documents)
    assert good.embedding is not None
    assert text.embedding is not None
    assert error_of(broken) is not None


@pytest.fixture
def plain_flow(tmp_path: Path) -> Iterator[PlainFlow]:
    with PlainFlow(tmp_path) as running:
        running.wait()
        yield running


@pytest.mark.slow
def test_plain_jina_starts_the_same_flow_and_leaves_nothing(plain_flow: PlainFlow) -> None:
    ask_everything(plain_flow.where.grpc)
    scrape(plain_flow.where.metrics)
    assert len(plain_flow.session()) >= len(ROOMS)
    assert plain_flow.interrupt() == 0
    _, left = psutil.wait_procs(plain_flow.session(), timeout=60)
    assert not left
