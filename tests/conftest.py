"""What tests of several rooms share."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer

from finetuner.contract.environment import DATABASE
from tests import sessions
from tests.order import ByGroup, place_of
from tests.ports import held_ports
from tests.postgres import Postgres, Server

# Jina chooses a room's port long before the room listens: each process of tests has its own range to choose from.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
os.environ |= {"JINA_RANDOM_PORT_MIN": f"{61000 + 1000 * WORKER}", "JINA_RANDOM_PORT_MAX": f"{61999 + 1000 * WORKER}"}

# What is imported stays: looking for garbage among it took a third of the time of the collection of tests.
gc.disable()

# A shell starts a job in the background with SIGINT ignored, and so would be every Flow that a test stops by it.
signal.signal(signal.SIGINT, signal.default_int_handler)


FLOW_FOLDERS = ("flows", "web", "tutorials", "client/flow", "gpu")
FIXTURES = {
    "flow": {"open_flow", "locked_flow", "tls_flow", "spawned"},
    "process": {"wait_for_end", "trainer_process"},
    "seconds": {"with_onnx", "postgres"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use; the others are marked where they are. Put the longest first."""
    folders = [Path(__file__).parent / folder for folder in FLOW_FOLDERS]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in folders):
            item.add_marker("flow")
        for mark, fixtures in FIXTURES.items():
            if fixtures & set(getattr(item, "fixturenames", ())):
                item.add_marker(mark)
    items.sort(key=place_of)


def pytest_collection_finish() -> None:
    """Look for garbage among what the tests make, and not among all that they have imported."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare the fast tests the imports of the folders whose tests all start a Flow."""
    folders = FLOW_FOLDERS if "not flow" in config.option.markexpr else ()
    return True if any(collection_path == Path(__file__).parent / folder for folder in folders) else None


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGroup:
    """Keep tests together that share what takes long to start."""
    return ByGroup(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the fast tests fast: no test without its mark starts a Python process."""
    runs_tests = hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)
    if runs_tests and "not process" in config.option.markexpr:
        sys.addaudithook(_refuse_python)


def _refuse_python(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.fork" or (event == "subprocess.Popen" and str(arguments[1][0]).startswith(sys.prefix)):
        raise AssertionError(f"a test that starts Python must be marked `flow` or `process`. Got {arguments}.")


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Give a port on which nothing listens, chosen by the system."""
    with held_ports(1) as (port,):
        yield port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server of this process of tests."""
    with Server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A new database with our tables, which $FINETUNER_DATABASE names."""
    with postgres_server.new_database() as database:
        monkeypatch.setenv(DATABASE, database.text)
        yield database


@pytest.fixture
def own_session() -> Iterator[None]:
    """Nobody is logged in; what this test logs in to is forgotten after it."""
    with sessions.own_session():
        yield


@pytest.fixture(scope="module")
def spawned() -> Iterator[None]:
    """Start the rooms of Flows in this process as new processes.

    Jina would fork them, and already a Flow that is only built turns on gRPC's handlers of forks. This process has
    threads of gRPC; with those handlers, forks of it were seen to hang, and to end it by SIGSEGV.
    """
    from jina.jaml import JAML

    method, classes = multiprocessing.get_start_method(), JAML.registered_classes
    multiprocessing.set_start_method("spawn", force=True)
    with pytest.MonkeyPatch.context() as patch:  # a new process gets them all, and cannot import those of tests
        patch.setattr(JAML, "registered_classes", lambda: _importable(classes()))
        yield
    multiprocessing.set_start_method(method, force=True)


def _importable(readers: dict[str, Any]) -> dict[str, Any]:
    """Return the readers, methods of classes, whose class is none of a test."""
    return {
        name: read for name, read in readers.items() if read.__self__.__module__.startswith(("jina.", "finetuner."))
    }
