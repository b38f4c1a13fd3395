"""Trainers with real worker processes on small generated data; no worker survives its test."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from docarray import Document, DocumentArray

from finetuner.catalogue import fashion
from finetuner.config.run_config import RunConfig
from finetuner.contract import wire
from finetuner.contract.environment import PREPARED
from finetuner.documents.pairs import make_pair
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.data.training_data import TrainingData
from finetuner.executors.trainer.devices import CPU
from finetuner.executors.trainer.executor import Trainer
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.executors.trainer.run_messages import RunRequest, WorkerSettings
from finetuner.executors.trainer.run_store import RunStore
from finetuner.executors.trainer.worker import main
from finetuner.flow.processes import command_of
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone
from tests import waiting

TRAINER = "import sys, time; from finetuner.executors.trainer.executor import Trainer; "
TRAINER += "Trainer(workspace_url=sys.argv[1], threads=1); time.sleep(600)"


PREPARATION = """
import sys, torch, finetuner.flow.preload
from finetuner.flow.launch import OF_RUNS
from finetuner.flow.prepared import serve
serve(sys.argv[1], OF_RUNS)
"""


@pytest.fixture(scope="session", autouse=True)
def prepared_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fork the runs of these trainers, as a Flow does."""
    if not any(item.get_closest_marker("process") for item in request.session.items):
        yield
        return
    path = tmp_path_factory.mktemp("prepared") / "socket"
    room = "x" * 1000  # for the command lines of runs; a Flow's process has the search path of modules there
    with (
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", PREPARATION, path, room]) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(PREPARED, str(path))
        yield
        process.terminate()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Steps this small are faster on one thread, most of all beside other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pairs() -> list[Document]:
    """24 images of 12 garments, each with an English caption."""
    return [
        make_pair(image.captions["en"], image.jpeg, {wire.LABEL_TAG: image.item, wire.LANGUAGE_TAG: "en"})
        for image in fashion("train", items=12)
    ]


@pytest.fixture(scope="session")
def ask() -> Callable[..., Any]:
    """Call an endpoint of an executor in this process and return its value, or raise its error."""

    def ask(endpoint: Callable[..., DocumentArray], docs: DocumentArray | None = None, **parameters: Any) -> Any:
        return wire.read_reply(endpoint(docs=docs, parameters=parameters)[0])

    return ask


@pytest.fixture(scope="session")
def push(ask: Callable[..., Any]) -> Callable[[Trainer, str, list[Document]], dict[str, Any]]:
    """Store documents as a dataset, in two parts."""

    def push(trainer: Trainer, name: str, documents: list[Document]) -> dict[str, Any]:
        half = max(len(documents) // 2, 1)
        for part, start in enumerate(range(0, len(documents), half)):
            ask(trainer.push, DocumentArray(documents[start : start + half]), upload=name, part=float(part))
        dataset: dict[str, Any] = ask(trainer.push, upload=name, name=name, commit=float(len(documents)))
        return dataset

    return push


@pytest.fixture(scope="session")
def trainer_at() -> Callable[..., AbstractContextManager[Trainer]]:
    """A trainer of this workspace, closed at the end of the `with` block."""

    @contextmanager
    def trainer_at(workspace: Path, **settings: Any) -> Iterator[Trainer]:
        trainer = Trainer(workspace_url=str(workspace), threads=1, **settings)
        try:
            yield trainer
        finally:
            trainer.close()

    return trainer_at


@pytest.fixture
def still_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """New trainers record runs and start none."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 3600)


@pytest.fixture(scope="session")
def pushed_pairs(
    tmp_path_factory: pytest.TempPathFactory,
    trainer_at: Callable[..., AbstractContextManager[Trainer]],
    push: Callable[..., Any],
    pairs: list[Document],
) -> Path:
    """The folder of datasets of a workspace with the dataset 'pairs'; tests copy it."""
    with trainer_at(tmp_path_factory.mktemp("pushed")) as opened:
        push(opened, "pairs", pairs)
        return opened.shared_workspace.datasets


@pytest.fixture
def trainer(
    tmp_path: Path,
    still_queue: None,
    trainer_at: Callable[..., AbstractContextManager[Trainer]],
    pushed_pairs: Path,
) -> Iterator[Trainer]:
    """A trainer with the dataset 'pairs' that starts no run."""
    with trainer_at(tmp_path / "workspace") as opened:
        shutil.copytree(pushed_pairs, opened.shared_workspace.datasets, dirs_exist_ok=True)
        yield opened


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Wait for a condition; fail with its name if it does not come true."""
    return waiting.wait_until


@pytest.fixture(scope="session")
def wait_for_end(ask: Callable[..., Any], wait_until: Callable[..., None]) -> Callable[[Trainer, str], dict[str, Any]]:
    """Wait until a run has ended and return its description."""

    def wait_for_end(trainer: Trainer, name: str) -> dict[str, Any]:
        wait_until(lambda: ask(trainer.status_of_run, name=name)["status"] in wire.ENDED, f"the end of run {name!r}")
        run: dict[str, Any] = ask(trainer.get_run, name=name)
        return run

    return wait_for_end


@pytest.fixture(scope="session")
def workers_in() -> Callable[[Path], list[psutil.Process]]:
    """The training processes of runs below a folder."""

    def workers_in(folder: Path) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if f" finetuner.executors.trainer.worker {folder}" in command_of(process):
                    found.append(process)
        return found

    return workers_in


@pytest.fixture(autouse=True)
def no_worker_is_left(
    request: pytest.FixtureRequest, tmp_path: Path, workers_in: Callable[[Path], list[psutil.Process]]
) -> Iterator[None]:
    yield
    if not any(map(request.node.get_closest_marker, ("process", "seconds"))):
        return  # `make test-fast` shows that the others start none
    left = workers_in(tmp_path)
    for worker in left:
        worker.kill()
    assert not left, f"workers outlived their test: {left}"


@pytest.fixture(scope="session")
def loaded_clip_mini() -> Clip:
    """The packaged model; tests copy it."""
    return load_backbone(find_backbone("clip-mini"))


@pytest.fixture
def clip_mini(loaded_clip_mini: Clip) -> Clip:
    """The packaged model, a fresh copy."""
    return deepcopy(loaded_clip_mini)


@pytest.fixture(scope="session")
def blobs_of_colour() -> TrainingData:
    """Eight images of a size that clip-mini takes, each of one colour and with two captions."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 3, 1, 1), dtype=np.uint8)
    pixels = np.broadcast_to(colours, (8, 3, 80, 80)).copy()
    pixels[:, :, 20:60, 30:50] = 255 - pixels[:, :, 20:60, 30:50]
    return TrainingData(pixels, [(f"a shirt, number {row}", f"ein Hemd, Nummer {row}") for row in range(8)])


@pytest.fixture(scope="session")
def trainer_process() -> list[str]:
    """Command line of a trainer in a process of its own; the workspace follows."""
    return [sys.executable, "-W", "ignore", "-c", TRAINER]


@pytest.fixture
def work(
    trainer: Trainer, ask: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., tuple[int, RunFolder]]]:
    """Record a run and run it in this process; return the exit code and the run's folder."""
    logger = logging.getLogger("finetuner")
    level = logger.level
    caplog.set_level(logging.DEBUG, "finetuner")

    def work(**fields: Any) -> tuple[int, RunFolder]:
        asked = {"model": "clip-mini", "train_data": "pairs", "epochs": 1, "batch_size": 8, "device": "cpu", **fields}
        run = ask(trainer.fit, config=asked)
        folder = RunFolder(trainer.shared_workspace.run(run["artifact_id"]))
        folder.path.mkdir(parents=True)
        data = RunStore(trainer.shared_workspace.runs_database).get(run["name"], "default").data
        root, settings = str(trainer.shared_workspace.root), WorkerSettings(image_cache_gb=1)
        config = RunConfig.from_dict(run["config"])
        RunRequest(run["artifact_id"], config, data, root, (CPU,), settings).write(folder)
        return main(str(folder.path)), folder

    yield work
    logger.setLevel(level)
