"""Uploaded models are checked in a process of bounded memory and time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.artifacts import model_check
from finetuner.executors.trainer.artifacts.model_check import check_models
from tests.gateway.made_artifacts import make_artifact, seal

pytestmark = pytest.mark.process


def test_the_process_accepts_a_model_and_names_the_fault_of_another(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "made", "a" * 24)
    check_models(folder)
    config = folder / "models" / "open_clip_config.json"
    values = json.loads(config.read_text())
    values["model_cfg"]["text_cfg"]["width"] = 8192
    config.write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match="must fit its config. Got a config of more numbers than the"):
        check_models(seal(folder, "a" * 24))


def test_a_check_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "SECONDS", 0.01)
    with pytest.raises(InvalidInput, match="must be checked within 0.01 s and .* Got exit code -1: no end"):
        check_models(tmp_path)
