"""The messages between trainer and worker survive the way through their files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetuner.config.run_config import RunConfig
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.executors.trainer.run_messages import Attempts, Outcome, RunRequest, WorkerProcess, WorkerSettings
from finetuner.executors.trainer.worker import main

CONFIG = RunConfig(
    "clip-mini",
    "pairs",
    run_name="run",
    training_options={"crop_scale": [0.5, 1.0]},
    callbacks=[{"name": "EarlyStopping", "options": {"monitor": "loss"}}],
)
REQUEST = RunRequest("a" * 24, CONFIG, {"train": "f" * 64}, "/workspace", ("0", "1"), WorkerSettings(1, 60, 0.5))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_a_request_is_read_as_it_was_written(folder: RunFolder) -> None:
    REQUEST.write(folder)
    assert RunRequest.read(folder) == REQUEST


@pytest.mark.parametrize("message", [WorkerProcess(7, ("0", "1")), Outcome("FAILED", "why"), Attempts(2)], ids=str)
def test_a_message_is_read_as_it_was_written(message: Any, folder: RunFolder) -> None:
    assert type(message).read(folder) is None
    message.write(folder)
    assert type(message).read(folder) == message


def test_a_process_note_of_an_earlier_version_names_no_device(folder: RunFolder) -> None:
    folder.write("process", {"pid": 7})
    assert WorkerProcess.read(folder) == WorkerProcess(7, ())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda found: found.clear(),
            FinetunerError,
            r"request.json must describe a run. Got KeyError\('artifact_id'\)",
        ),
        (lambda found: found.pop("devices"), FinetunerError, r"Got KeyError\('devices'\) from .*Resume the run"),
        (lambda found: found["settings"].update(speed=1), FinetunerError, "Got TypeError.*speed"),
        (lambda found: found["config"].update(epochs=0), InvalidInput, r"epochs must be .*Got 0"),
        (lambda found: found["config"].update(speed=1), InvalidInput, "run config must have fields of .*Got speed"),
    ],
    ids=["empty", "no devices", "unknown setting", "wrong value", "unknown field"],
)
def test_a_wrong_request_is_refused(
    change: Callable[[dict[str, Any]], Any], error: type[Exception], message: str, folder: RunFolder
) -> None:
    REQUEST.write(folder)
    found = folder.read("request")
    assert found is not None
    change(found)
    folder.write("request", found)
    with pytest.raises(error, match=message):
        RunRequest.read(folder)


@pytest.mark.parametrize("content", [None, "{", json.dumps([1])], ids=["missing", "cut off", "another shape"])
def test_a_worker_without_a_request_fails_with_the_reason(
    content: str | None, folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "finetuner")  # and back, after the test
    if content is not None:
        (folder.path / "request.json").write_text(content)
    assert main(str(folder.path)) == 1
    outcome = Outcome.read(folder)
    assert outcome is not None
    assert outcome.status == "FAILED"
    assert outcome.details.startswith("request.json must describe a run. Got ")
