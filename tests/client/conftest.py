"""What the client's tests share: clip-mini as it lies in the package now, images, and an artifact of it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace

ARTIFACT_ID = "0123456789abcdef01234567"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: in models this small threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def jpeg() -> Callable[[int], bytes]:
    """Return the maker of a small JPEG, another for each number."""

    def make(number: int) -> bytes:
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((48, 40), Image.Resampling.NEAREST).save(buffer, "JPEG")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def mini_row(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Return clip-mini's row, on a copy: the packaged weights may be replaced while the tests run."""
    row = find_backbone("clip-mini")
    assert row.folder is not None
    folder = tmp_path_factory.mktemp("mini") / "clip_mini"
    shutil.copytree(row.folder, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return replace(row, folder=folder)


@pytest.fixture(scope="session")
def mini(mini_row: Backbone) -> Clip:
    """Return clip-mini, loaded once; tests do not change it."""
    return load_backbone(mini_row)


def manifest(artifact_id: str = ARTIFACT_ID) -> Manifest:
    return Manifest(
        artifact_id=artifact_id,
        run_name="first-run",
        backbone="clip-mini",
        output_dim=128,
        towers=list(TOWERS),
        metrics={"before": {"recall": 0.25}, "after": {"recall": 0.5}},
        data={"train": "0" * 64},
        created_at="2025-01-01T00:00:00+00:00",
        code_version="0.1.0",
        parent="clip-mini",
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, mini: Clip) -> Path:
    """Return the folder of a published artifact; tests that change it copy it first."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    return publish_artifact(workspace, mini, manifest(), {"model": "clip-mini", "epochs": 1})
