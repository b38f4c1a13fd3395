"""After login, the name on Jina's hub resolves to our executor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from docarray import Document, DocumentArray
from jina import Deployment, Flow

from finetuner.api.hub import NO_TOKEN
from finetuner.api.hub_executor import CONFIG, executor_connection, map_hub_name
from finetuner.contract.environment import LOGGED_IN
from finetuner.transport.connection import Connection

NAMES = [
    "jinaai://finetuner/FinetunerExecutor:latest",
    "jinaai+docker://finetuner/FinetunerExecutor:v0.2.7",
    "jinaai://finetuner/FinetunerExecutor",
    "jinahub+docker://FinetunerExecutor/latest",
]
HOST = "grpc://127.0.0.1:9"

pytestmark = pytest.mark.usefixtures("spawned")


@pytest.fixture(autouse=True)
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map the names as `login` does, and restore the environment after the test."""
    monkeypatch.setenv(LOGGED_IN, "")
    map_hub_name(Connection(HOST))


def uses_of(name: str) -> str:
    deployment = Flow().add(name="room", uses=name)._deployment_nodes["room"]
    assert isinstance(deployment._is_docker, bool)
    return ("docker " if deployment._is_docker else "") + str(deployment.args.uses)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_the_name(name: str) -> None:
    assert uses_of(name) == str(CONFIG)
    assert Deployment(uses=name, include_gateway=False).args.uses == str(CONFIG)


@pytest.mark.parametrize(
    "name", ["jinaai://finetuner/Other", "jinaai://else/FinetunerExecutor", "BaseExecutor", str(CONFIG)]
)
def test_other_names_stay_unchanged(name: str) -> None:
    assert uses_of(name) == name


def test_without_login_jina_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOGGED_IN)
    assert uses_of(NAMES[0]) == NAMES[0]
    assert uses_of(NAMES[1]) == f"docker {NAMES[1]}"


def test_a_second_login_adds_nothing() -> None:
    before = Deployment.__init__
    map_hub_name(Connection("grpc://127.0.0.1:10"))
    assert Deployment.__init__ is before
    assert executor_connection(None, None).host == "grpc://127.0.0.1:10"


def test_host_and_token_come_from_uses_with_or_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNER_HOST", "other:1")
    monkeypatch.setenv("FINETUNER_TOKEN", "users")
    monkeypatch.setenv("JINA_AUTH_TOKEN", "of-login")

    def found(host: str | None = None, token: str | None = None) -> tuple[str, str]:
        flow = executor_connection(host, token)
        return flow.host, flow.token

    assert found("given:1", "given") == ("grpc://given:1", "given")
    assert found() == (HOST, "of-login")
    assert found(HOST) == (HOST, "of-login")
    assert found("given:1") == ("grpc://given:1", "users")
    monkeypatch.delenv("FINETUNER_TOKEN")
    assert found("given:1") == ("grpc://given:1", "")
    monkeypatch.setenv("JINA_AUTH_TOKEN", NO_TOKEN)
    assert found() == (HOST, "")
    monkeypatch.delenv(LOGGED_IN)
    monkeypatch.setenv("JINA_AUTH_TOKEN", "users")
    assert found() == ("grpc://other:1", "users")


@pytest.mark.slow
def test_a_flow_of_yaml_runs_the_name(clip_folder: Path, jpeg: bytes, tmp_path: Path) -> None:
    file = tmp_path / "flow.yml"
    file.write_text(
        f"""jtype: Flow
executors:
  - uses: jinaai+docker://finetuner/FinetunerExecutor:latest
    timeout_ready: -1
    install_requirements: true
    uses_with:
      artifact: {clip_folder}
      token:
"""
    )
    with Flow.load_config(str(file)) as flow:
        found = flow.post("/encode", DocumentArray([Document(text="a red dress"), Document(blob=jpeg)]))
    assert found.embeddings.shape == (2, 128)


FORKED = """
import sys
from docarray import Document, DocumentArray
from jina import Flow
from finetuner.transport.connection import Connection
from finetuner.api.hub_executor import map_hub_name

if __name__ == "__main__":
    map_hub_name(Connection("grpc://127.0.0.1:9"))
    flow = Flow().add(uses="jinaai://finetuner/FinetunerExecutor:latest", uses_with={"artifact": sys.argv[1]})
    with flow:
        print(flow.post("/encode", DocumentArray([Document(text="a red dress")])).embeddings.shape)
"""


@pytest.mark.process
@pytest.mark.slow
def test_forked_rooms(clip_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FORKED)
    found = subprocess.run([sys.executable, str(script), str(clip_folder)], capture_output=True, text=True, timeout=250)
    assert "(1, 128)" in found.stdout, found.stderr[-2000:]
