"""Start of a room: wrong settings stop it, damaged artifacts do not, and promotions take effect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.exceptions import (
    CorruptedArtifact,
    FinetunerError,
)
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.workspace.folder import Workspace

from .calls import encoded
from .conftest import TUNED, Start


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"models": 0},
        {"backbone": "clip-mimi"},
        {"queue_size": 0},
        {"max_wait_ms": -1},
        {"cache_mb": -1},
        {"deadline": 0},
        {"workers": 65},
        {"fetchers": 0},
        {"threads": -1},
        {"private_uris": "no"},
        {"precision": "fp16"},
        {"engine": "tensorrt"},
        {"engine": "onnx", "precision": "bf16"},
        {"engine": "onnx", "compile": True},
        {"compile": "yes"},
        {"draft": 1},
        {"draft": 65},
        {"precision": "int8"},
        {"session_options": {"allow_spinning": False}},
        {"session_options": 0},
        {"engine": "onnx", "session_options": {"spin": False}},
        {"engine": "onnx", "device": "cuda"},
        {"models_mb": -1},
        {"switch_wait": 61},
        {"switch_limit": -1},
    ],
    ids=str,
)
def test_a_wrong_setting_stops_the_room_at_its_start(start: Start, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FinetunerError, match="Got "):
        TextEncoder(workspace_url=str(tmp_path), **settings)


def test_a_damaged_live_artifact_does_not_keep_the_room_from_starting(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    publish_tuned(own_workspace, TUNED, 1)
    own_workspace.aliases.set("live", {"artifact": TUNED})
    weights = own_workspace.artifacts / TUNED / "models" / "clip-text" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    room = start(TextEncoder, own_workspace)
    documents = DocumentArray([Document(text="a red dress")])
    asyncio.run(room.encode(documents, {}))
    assert isinstance(error_of(documents[0]), CorruptedArtifact)
    own_workspace.aliases.set("live", {"artifact": "clip-mini"})
    asyncio.run(room.encode(documents, {}))
    assert documents[0].tags[ARTIFACT_TAG] == "clip-mini"


def test_after_a_corrupted_artifact_the_room_still_answers(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    publish_tuned(own_workspace, TUNED, 0)
    weights = own_workspace.artifacts / TUNED / "models" / "clip-text" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    room = start(TextEncoder, own_workspace)
    (found,) = encoded(room, [Document(text="a shirt")], artifact=TUNED)
    assert "models/clip-text/weights.safetensors differs from the manifest" in str(error_of(found))
    (found,) = encoded(room, [Document(text="a shirt")])
    assert error_of(found) is None


@pytest.mark.seconds
def test_the_next_request_after_a_promotion_uses_the_new_model(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    rooms = [start(room, own_workspace) for room in (TextEncoder, VisionEncoder)]

    def live() -> set[str]:
        found = encoded(rooms[0], [Document(text="a shirt")])
        found += encoded(rooms[1], [Document(tensor=np.zeros((9, 9, 3), np.uint8))])
        return {document.tags[ARTIFACT_TAG] for document in found}

    assert live() == {"clip-mini"}
    for number, artifact_id in enumerate(("1" * 24, "2" * 24)):
        publish_tuned(own_workspace, artifact_id, number)
        own_workspace.aliases.set("live", {"artifact": artifact_id})
        assert live() == {artifact_id}
    own_workspace.aliases.set("live", {"artifact": "clip-mini"})
    assert live() == {"clip-mini"}
    assert rooms[0].registry.get_sample_value("finetuner_models_loaded") == 2
