"""flows/compose.yaml and the Dockerfile: what they name exists, and what they run starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from docarray import Document, DocumentArray

from finetuner.contract.wire import ENCODE
from finetuner.database.url import DatabaseUrl
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, PORT, RoomOptions, standalone_flow
from finetuner.transport.connection import Connection
from finetuner.transport.probes import running
from tests.room_commands import CLASSES, options_of, settings_given
from tests.waiting import wait_until

from .rooms_apart import documents_in, slow_image

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "flows"
VARIABLE = re.compile(r"\$\{(\w+)")
DEFAULT = re.compile(r"\$\{(\w+):-([^{}]*)\}")


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FLOWS / "compose.yaml").read_text())
    return content


def rooms() -> dict[str, dict[str, Any]]:
    """Return the services that are rooms, by the room's name."""
    services = compose()["services"].values()
    return {service["command"][1]: service for service in services if service.get("command", [""])[0] == "room"}


def instruction(name: str) -> list[str]:
    """Return the last JSON form of an instruction of the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    (found,) = re.findall(rf"^{name}\b[^\[]*(\[.*\])$", "\n".join(lines), re.MULTILINE)[-1:]
    return [str(word) for word in json.loads(found)]


def test_there_is_a_service_for_each_room_of_the_flow() -> None:
    flow = yaml.safe_load(flow_file().read_text())
    assert set(rooms()) == {GATEWAY, *(room["name"] for room in flow["executors"])}
    for service, content in compose()["services"].items():
        if content in rooms().values():
            assert RoomOptions().address(content["command"][1])[0] == service


@pytest.mark.parametrize("name", CLASSES)
def test_a_service_runs_its_room_with_settings_that_it_has(name: str, tmp_path: Path) -> None:
    command = [DEFAULT.sub(r"\2", word) for word in rooms()[name]["command"]]
    options = options_of(command)
    settings = settings_given(options)
    assert str(options["workspace"]) == "/workspace"
    assert (options["port"], options["metrics_port"]) == (PORT, METRICS_PORT)
    content = standalone_flow(flow_file(), name, RoomOptions(tmp_path, settings=settings))
    (own,) = [content["gateway"]] if name == GATEWAY else content["executors"]
    assert settings.items() <= own["uses_with"].items()


def test_what_services_name_exists() -> None:
    content = compose()
    services = content["services"]
    for name, service in services.items():
        assert set(service["networks"]) <= set(content["networks"]), name
        assert set(service.get("depends_on", [])) <= set(services), name
        for volume in service["volumes"]:
            source = DEFAULT.sub(r"\2", volume).split(":")[0]
            assert (FLOWS / source).exists() if source.startswith("./") else source in content["volumes"], volume
    extra = yaml.safe_load((FLOWS / "compose.gpu.yaml").read_text())["services"]
    assert set(extra) <= set(services)


def test_rooms_with_state_get_the_database_after_its_upgrade() -> None:
    extra = yaml.safe_load((FLOWS / "compose.postgres.yaml").read_text())
    own = {"postgres", "database-upgrade"}
    assert set(extra["services"]) - own == {GATEWAY, "trainer", "indexer"} <= set(compose()["services"])
    for name in extra["services"].keys() - {"postgres"}:
        service = extra["services"][name]
        given = service["environment"]["FINETUNER_DATABASE"]
        password = re.search(r"\$\{.*?\}", given)
        assert password is not None
        url = DatabaseUrl.read(given.replace(password[0], "0123abc"))
        assert (url.user, url.host, url.database) == ("finetuner", "postgres", "finetuner")
        assert set(service["depends_on"]) == ({"postgres"} if name in own else {"database-upgrade"})
    assert extra["services"]["database-upgrade"]["command"] == ["db", "upgrade"]
    assert "ports" not in extra["services"]["postgres"]


def test_rooms_run_as_they_should() -> None:
    """Nothing of theirs can be written but the workspace and /tmp, and the gateway alone can be reached."""
    for name, service in rooms().items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert ("ports" in service) == (name == GATEWAY)
        assert service["healthcheck"]["test"][1:4] == ["python", "-m", "finetuner.health"]
    assert compose()["networks"]["rooms"]["internal"] is True
    assert set(rooms()[GATEWAY]["depends_on"]) == set(compose()["services"]) - {"gateway", "prometheus", "grafana"}
    assert "FINETUNER_TOKEN" not in rooms()["trainer"]["environment"]


def test_every_setting_is_explained_with_its_default() -> None:
    used: dict[str, str] = {}
    for file in ("compose.yaml", "compose.gpu.yaml", "compose.postgres.yaml"):
        text = (FLOWS / file).read_text()
        used |= dict.fromkeys(VARIABLE.findall(text), "") | dict(DEFAULT.findall(text))
    explained = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", (FLOWS / ".env.example").read_text(), re.MULTILINE))
    composes_own = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    assert set(explained) - composes_own == set(used)
    for name, default in used.items():
        if explained[name] != default:  # the block for GPUs comes first, the defaults after it
            assert name in ("FINETUNER_IMAGE", "FINETUNER_VARIANT", "FINETUNER_DEVICE", "FINETUNER_GPUS"), name


@pytest.mark.slow
def test_the_images_command_and_health_check_run_here(tmp_path: Path) -> None:
    """Without `tini`, which this machine may not have, with a workspace of the test's, and ports that are free."""
    entry = instruction("ENTRYPOINT")
    assert entry[:4] == ["tini", "--", "python", "-m"]
    command = [tmp_path / "workspace" if word == "/workspace" else word for word in instruction("CMD")]
    environment = os.environ | {"FINETUNER_TOKEN": "of-the-test"}
    with open(tmp_path / "log", "wb") as log:
        flow = subprocess.Popen(
            [sys.executable, *entry[3:], *map(str, command), "--grpc-port", "0", "--http-port", "0"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        deadline = time.monotonic() + 250
        check = [sys.executable, *instruction("HEALTHCHECK")[1:]]
        assert instruction("HEALTHCHECK")[0] == "python"
        assert subprocess.run([*check, "http://127.0.0.1:9"], capture_output=True).returncode == 1
        while (at := running(tmp_path / "workspace")) is None:
            assert flow.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        while (asked := subprocess.run([*check, at.http], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, asked
        assert asked.stdout == "ok\n"
        client = Connection(at.grpc, "of-the-test")
        with ThreadPoolExecutor(1) as aside:
            images = DocumentArray(Document(blob=slow_image()) for _ in range(12))
            under_way = aside.submit(client.post, ENCODE, images)
            wait_until(lambda: documents_in(at.metrics["vision_encoder"]) > 0, "documents in the vision encoder")
            flow.send_signal(signal.SIGTERM)
            assert all(document.embedding is not None for document in under_way.result(60))
        assert flow.wait(200) == 0
        assert not (tmp_path / "workspace" / "flow.json").exists()
    finally:
        flow.kill()
        flow.wait()
