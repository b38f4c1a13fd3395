"""flows/finetuner.yml, the real one: by `finetuner up` and by plain `jina flow`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from docarray import Document, DocumentArray
from jina import Client
from PIL import Image

from finetuner.flow_settings import Addresses, addresses, configured, flow_file
from finetuner.running_flow import RunningFlow
from finetuner.wire import ARTIFACT_TAG, ENCODE, INDEX, MAX_MESSAGE_BYTES, SEARCH, error_of

ROOMS = {"gateway", "trainer", "evaluator", "text_encoder", "vision_encoder", "indexer"}


def picture(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def ask_everything(host: str) -> None:
    """What a user of the bare jina.Client does first."""
    client = Client(host=host)
    encoded = client.post(ENCODE, DocumentArray([Document(text="a red dress"), Document(blob=picture("red"))]))
    assert [error_of(document) for document in encoded] == [None, None]
    assert encoded[0].embedding.shape == encoded[1].embedding.shape
    assert encoded[0].tags[ARTIFACT_TAG] == encoded[1].tags[ARTIFACT_TAG]
    pictures = DocumentArray([Document(id=colour, blob=picture(colour)) for colour in ("red", "blue", "white")])
    assert all(error_of(document) is None for document in client.post(INDEX, pictures))
    (asked,) = client.post(SEARCH, DocumentArray([Document(blob=picture("blue"))]), parameters={"limit": 2})
    assert error_of(asked) is None
    assert len(asked.matches) == 2
    assert asked.matches[0].id == "blue"
    (asked,) = client.post(SEARCH, DocumentArray([Document(text="a red dress")]), parameters={"limit": 1000})
    assert set(pictures[:, "id"]) <= set(asked.matches[:, "id"])  # the index may hold other tests' documents


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
    state = httpx.get(f"{flow.http}/healthz").json()
    assert state["status"] == "ok"
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
        (ENCODE, {"text_encoder", "vision_encoder"}),
        (SEARCH, {"text_encoder", "vision_encoder", "indexer"}),
        ("/runs/list", {"trainer"}),
    ],
)
def test_requests_visit_only_the_rooms_that_bind_them(flow: RunningFlow, endpoint: str, rooms: set[str]) -> None:
    before = visits(flow)
    Client(host=flow.host).post(endpoint, DocumentArray([Document(text="a red dress")]))
    after = visits(flow)
    assert {room for room in ROOMS if after[room] > before[room]} == {"gateway", *rooms}


def test_a_broken_picture_does_not_harm_its_neighbours(flow: RunningFlow) -> None:
    documents = DocumentArray([Document(blob=picture("red")), Document(blob=b"no picture"), Document(text="dress")])
    good, broken, text = Client(host=flow.host).post(ENCODE, documents)
    assert good.embedding is not None
    assert text.embedding is not None
    assert error_of(broken) is not None


class PlainFlow:
    """`jina flow --uses` on the YAML with other ports."""

    def __init__(self, folder: Path) -> None:
        content = configured(flow_file(), workspace=folder / "workspace", grpc_port=0, http_port=0)
        self.where: Addresses = addresses(content)
        path = folder / "finetuner.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        self._log = folder / "flow.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("jina")), "flow", "--uses", str(path)],
                cwd=flow_file().parents[1],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "JINA_OPTOUT_TELEMETRY": "1"},
            )

    def wait(self, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.where.http}/healthz", timeout=15).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        pytest.fail(f"the Flow did not start:\n{self._log.read_text()[-5000:]}")

    def session(self) -> list[psutil.Process]:
        """Every process of the Flow, also one whose parent has gone."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


@pytest.fixture
def plain_flow(tmp_path: Path) -> Iterator[PlainFlow]:
    running = PlainFlow(tmp_path)
    try:
        running.wait()
        yield running
    finally:
        for process in running.session():
            process.kill()
        running.process.wait()


def test_plain_jina_starts_the_same_flow_and_leaves_nothing(plain_flow: PlainFlow) -> None:
    ask_everything(plain_flow.where.grpc)
    scrape(plain_flow.where.metrics)
    assert len(plain_flow.session()) >= len(ROOMS)
    plain_flow.process.send_signal(signal.SIGINT)
    assert plain_flow.process.wait(60) == 0
    _, left = psutil.wait_procs(plain_flow.session(), timeout=10)
    assert not left


def test_the_yaml_bounds_and_hides_every_room() -> None:
    content = yaml.safe_load(flow_file().read_text())
    rooms = content["executors"]
    assert {room["name"] for room in rooms} | {"gateway"} == ROOMS
    limits = {"grpc.max_receive_message_length": MAX_MESSAGE_BYTES, "grpc.max_send_message_length": MAX_MESSAGE_BYTES}
    assert content["with"]["grpc_channel_options"] == limits
    for room in rooms:
        assert room["grpc_server_options"] == limits, room["name"]
        assert room["host"] == "127.0.0.1", "who reaches a room passes the token by"
        assert room["uses_with"] == {"workspace_url": "workspace"}
    ports = [room["port_monitoring"] for room in (content["gateway"], *rooms) if room["monitoring"]]
    assert ports == list(range(51100, 51106))
    assert content["gateway"]["port"] == [51000, 51001]
