"""Two encoder rooms on one workspace with a tuned artifact, and the models to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.workspace.folder import Workspace

Start = Callable[..., EncoderRoom]
TUNED = "0123456789abcdef01234567"
SHORT = (64, 32)  # sizes of short vectors of every tuned artifact


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Six JPEG files."""
    return [image.jpeg for image in fashion("test", items=3)]


@pytest.fixture(scope="session")
def clip_mini() -> Clip:
    """The packaged model."""
    return load_backbone(find_backbone("clip-mini"))


@pytest.fixture(scope="session")
def publish_tuned() -> Callable[..., None]:
    """Publish clip-mini with other weights, as a run would."""

    def publish_tuned(workspace: Workspace, artifact_id: str, seed: int, *, to_onnx: bool = False) -> None:
        model = load_backbone(find_backbone("clip-mini"))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        manifest = Manifest(artifact_id, "run", "clip-mini", model.dim, [*TOWERS], {}, {}, "2026-01-01", "0")
        training = {"loss_options": {"matryoshka_dims": [*SHORT]}}
        publish_artifact(workspace, model, replace(manifest, training=training), {}, to_onnx=to_onnx)

    return publish_tuned


@pytest.fixture(scope="session")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, publish_tuned: Callable[[Workspace, str, int], None]
) -> Workspace:
    """A workspace with the artifact TUNED, for tests that promote nothing."""
    folder = Workspace(tmp_path_factory.mktemp("workspace"))
    publish_tuned(folder, TUNED, 0)
    folder.aliases.set("candidate", {"artifact": TUNED})
    return folder


@pytest.fixture(scope="session")
def tuned(workspace: Workspace) -> Clip:
    """The model of the artifact TUNED."""
    return load_artifact(workspace.artifacts / TUNED)


@pytest.fixture(scope="module")
def text_room(workspace: Workspace) -> Iterator[TextEncoder]:
    with closing(TextEncoder(workspace_url=str(workspace.root), batch_size=3)) as room:
        yield room


@pytest.fixture(scope="module")
def vision_room(workspace: Workspace) -> Iterator[VisionEncoder]:
    with closing(VisionEncoder(workspace_url=str(workspace.root), batch_size=3)) as room:
        yield room


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a room with settings; it is closed after the test."""
    with ExitStack() as stack:

        def start(kind: type[EncoderRoom], workspace: Workspace, **settings: Any) -> EncoderRoom:
            return stack.enter_context(closing(kind(workspace_url=str(workspace.root), **settings)))

        yield start


@pytest.fixture
def own_workspace(tmp_path: Path) -> Workspace:
    """An empty workspace, for tests that promote."""
    return Workspace(tmp_path)
