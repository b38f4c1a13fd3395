"""Published artifacts: a CLIP and a model of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.contract.environment import STAND_INS
from finetuner.models.backbones import find_backbone
from finetuner.models.model_kinds import load_row, towers_of
from finetuner.workspace.folder import Workspace

CLIP_ID, IMAGES_ID = "0123456789abcdef01234567", "76543210fedcba9876543210"


def published(place: Workspace, artifact_id: str, name: str) -> Path:
    """Publish an untuned backbone and return the artifact's folder."""
    row = find_backbone(name)
    model = load_row(row)
    manifest = Manifest(artifact_id, "run", row.name, model.dim, [*towers_of(row)], {}, {}, "2026-01-01", "0")
    publish_artifact(place, model, manifest, {})
    return place.root / "artifacts" / artifact_id


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both towers of clip-mini."""
    return published(Workspace(tmp_path_factory.mktemp("workspace")), CLIP_ID, "clip-mini")


@pytest.fixture(scope="session")
def images_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STAND_INS, "resnet50=resnet-mini-random")
        return published(Workspace(tmp_path_factory.mktemp("workspace")), IMAGES_ID, "resnet50")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """One image."""
    return next(iter(fashion("test", items=1))).jpeg
