"""Publishing an artifact: all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.artifacts.manifest import read_manifest, verify_artifact
from finetuner.artifacts.publish import publish_artifact
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace


def test_a_published_artifact_has_its_id_files_and_metrics(published: Path) -> None:
    manifest = verify_artifact(published)
    assert sorted(manifest.files) == [
        "config.yml",
        "metrics.yml",
        "models/clip-text/weights.safetensors",
        "models/clip-vision/weights.safetensors",
        "models/open_clip_config.json",
        "models/open_clip_model.safetensors",
        "models/tokenizer.json",
    ]
    assert published.name == manifest.artifact_id
    assert manifest.metrics["after"] == {"recall": 0.5}


def test_a_failed_publish_leaves_nothing(tmp_path: Path, published: Path, mini: Clip) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(TypeError):
        publish_artifact(workspace, mini, read_manifest(published), None)  # type: ignore[arg-type]
    assert list(workspace.artifacts.iterdir()) == []
