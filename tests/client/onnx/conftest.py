"""Fixtures and helpers for the ONNX tests: an artifact with ONNX files, images, small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetuner.artifacts.publish import publish_artifact
from finetuner.contract.environment import STAND_INS
from finetuner.inference.encoding import Encoder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, Clip
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import load_image_backbone
from finetuner.workspace.folder import Workspace
from tests.client.conftest import ARTIFACT_ID, manifest
from tests.once import made_once

TEXTS = ["a red dress", "ein blaues Hemd", "x", "", "a very long caption " * 50]


@pytest.fixture(scope="session")
def with_onnx(tmp_path_factory: pytest.TempPathFactory, mini: Clip) -> Path:
    """Return the folder of a published artifact with ONNX files. Tests that change it copy it first."""

    def make(folder: Path) -> None:
        publish_artifact(Workspace(folder), mini, manifest(), {"model": "clip-mini"}, to_onnx="int8")

    return Workspace(made_once(tmp_path_factory, "with-onnx", make)).artifacts / ARTIFACT_ID


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Return five images of noise."""
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)) for _ in range(5)]


def largest_difference(torch_model: Encoder, onnx: Encoder, tower: str, items: list[Any]) -> float:
    ours, theirs = (
        (model.encode_texts if tower == TEXT else model.encode_images)(items, batch_size=2)
        for model in (torch_model, onnx)
    )
    assert theirs.dtype == np.float32
    assert theirs.shape == (len(items), torch_model.dim)
    return float(np.abs(ours - theirs).max())


@pytest.fixture
def random_mini(monkeypatch: pytest.MonkeyPatch) -> ImageModel:
    """Return the small random network that stands in for image models in tests."""
    monkeypatch.setenv(STAND_INS, "1")
    return load_image_backbone(find_backbone("resnet-mini-random"))
