"""Loading the model of an artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetuner.artifacts.load import load_artifact, load_onnx_artifact
from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.exceptions import CorruptedArtifact
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace
from tests.client.conftest import manifest


def test_the_published_model_is_loaded(published: Path, mini: Clip) -> None:
    loaded = load_artifact(published)
    assert loaded.model_id == read_manifest(published).artifact_id
    assert np.array_equal(loaded.encode_texts(["a"]), mini.encode_texts(["a"]))
    assert load_artifact(published, towers=("clip-text",)).towers == ("clip-text",)


def test_short_vectors_are_known_to_the_loaded_model(mini: Clip, tmp_path: Path) -> None:
    training = {"loss_options": {"matryoshka_dims": [64, 32]}}
    folder = publish_artifact(Workspace(tmp_path), mini, replace(manifest(), training=training), {})
    assert load_artifact(folder).short_dims == (64, 32)
    assert mini.short_dims == ()


def test_an_artifact_is_verified_before_it_is_loaded(copy: Path) -> None:
    (copy / "config.yml").write_text("other")
    with pytest.raises(CorruptedArtifact, match="config.yml differs from the manifest"):
        load_artifact(copy)
    with pytest.raises(CorruptedArtifact, match="config.yml differs from the manifest"):
        load_onnx_artifact(copy, "clip-text")
