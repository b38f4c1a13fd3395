"""Fingerprints: equal where vectors are equal, from memory and from files, and known by artifact or backbone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetuner.artifacts.fingerprints import (
    known_fingerprints,
    model_fingerprints,
    same_towers,
    stored_fingerprints,
)  # fmt: skip
from finetuner.artifacts.manifest import FINGERPRINTS, read_manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip
from finetuner.models.clip_files import load_towers
from finetuner.workspace.folder import Workspace
from tests.client.conftest import manifest


@pytest.fixture
def copied(published: Path) -> Clip:
    """The published model, for a test that changes it."""
    return load_towers(published / "models", "copy")


def test_memory_and_files_agree(published: Path, mini: Clip, copied: Clip) -> None:
    found = read_manifest(published).fingerprints
    assert sorted(found) == sorted(TOWERS)
    assert found == stored_fingerprints(published / "models") == model_fingerprints(copied) == model_fingerprints(mini)


def test_the_fingerprint_is_that_of_a_naive_loop(published: Path) -> None:
    folder = published / "models"
    config = json.loads((folder / "open_clip_config.json").read_text())
    kept = {k: v for k, v in config["model_cfg"].items() if not k.startswith("init_logit") and k != "text_cfg"}
    described = {"tower": VISION, "config": kept, "input": config["preprocess_cfg"]}
    content = json.dumps(described, sort_keys=True).encode()
    for name, value in sorted(load_file(folder / VISION / "weights.safetensors").items()):
        assert value.dtype == torch.float32
        content += json.dumps([name, "F32", list(value.shape)]).encode() + value.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest() == read_manifest(published).fingerprints[VISION]


def test_one_bit_changes_its_own_tower_alone(copied: Clip) -> None:
    before = model_fingerprints(copied)
    with torch.no_grad():
        copied.network.logit_scale.add_(1)
        assert model_fingerprints(copied) == before, "no vector depends on the scale of the logits"
        bits = copied.network.visual.proj.view(torch.int32)
        bits[0, 0] ^= 1
    assert same_towers(before, model_fingerprints(copied)) == [TEXT]
    bits[0, 0] ^= 1
    copied.preprocess_config.mean = (0.1, 0.2, 0.3)
    assert same_towers(before, model_fingerprints(copied)) == [TEXT], "the same weights, other pixels"
    copied.files["tokenizer.json"] += " "
    assert same_towers(before, model_fingerprints(copied)) == []


def test_what_is_known_of_artifacts_and_backbones(tmp_path: Path, mini: Clip) -> None:
    workspace = Workspace(tmp_path)
    made = publish_artifact(workspace, mini, manifest(), {})
    found = read_manifest(made).fingerprints
    assert known_fingerprints(workspace, made.name) == found
    assert known_fingerprints(workspace, "clip-mini") == {}
    workspace.fingerprints.set("clip-mini", found)
    assert known_fingerprints(workspace, "clip-mini") == found
    (file,) = (tmp_path / "fingerprints").iterdir()
    file.write_text("{")
    (made / "manifest.json").write_text("{")
    for name in ("clip-mini", made.name, "0" * 24, "../artifacts", ".", ""):
        assert known_fingerprints(workspace, name) == {}
    assert same_towers({}, {}) == [], "no fingerprint equals none"


@pytest.mark.parametrize("value", [None, 3, ["a"], {TEXT: 1}], ids=["none", "number", "list", "numbers"])
def test_a_manifest_without_right_fingerprints_has_none(published: Path, value: object) -> None:
    found = read_manifest(published)
    found.training[FINGERPRINTS] = value
    assert found.fingerprints == {}
