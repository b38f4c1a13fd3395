"""Engines, precisions and the decoding of large JPEGs: the embeddings stay nearly the same."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import pytest
import torch
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.contract.wire import error_of
from finetuner.documents.images import decode
from finetuner.exceptions import ArtifactNotFound
from finetuner.executors.encoder.lane.runner import LONG, Runner
from finetuner.executors.encoder.lane.settings import EngineSettings
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.models.clip_files import load_backbone
from finetuner.onnx.model import OnnxModel
from finetuner.workspace.folder import Workspace
from tests.encoder.conftest import TUNED, Start
from tests.encoder.lane.gate import TEXTS, send, texts


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_every_precision_gives_nearly_the_same_vectors(
    precision: str, start: Start, workspace: Workspace, clip_mini: Clip
) -> None:
    found = asyncio.run(send(start(TextEncoder, workspace, precision=precision), texts(TEXTS)))
    assert nearest(found, clip_mini) > 0.999


def nearest(found: DocumentArray, model: Clip) -> float:
    """Return the smallest cosine between embeddings of TEXTS and the model's."""
    return float((found.embeddings * model.encode_texts(TEXTS)).sum(axis=1).min())


@pytest.mark.seconds
@pytest.mark.slow
def test_onnx_runtime_gives_nearly_the_same_vectors_with_threads_and_options(
    start: Start, workspace: Workspace, clip_mini: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []
    made = OnnxModel.__init__

    def remember(model: OnnxModel, session: Any, *rest: Any) -> None:
        sessions.append(session)
        made(model, session, *rest)

    monkeypatch.setattr(OnnxModel, "__init__", remember)
    options = {"allow_spinning": False, "graph_optimization_level": "extended"}
    room = start(TextEncoder, workspace, engine="onnx", threads=1, session_options=options)
    assert nearest(asyncio.run(send(room, texts(TEXTS))), clip_mini) > 0.999
    found = sessions[-1].get_session_options()
    assert found.intra_op_num_threads == 1
    assert found.graph_optimization_level.name == "ORT_ENABLE_EXTENDED"


@pytest.mark.slow
def test_int8_gives_nearly_the_same_vectors_and_an_artifact_without_its_files_is_refused(
    start: Start, workspace: Workspace, clip_mini: Clip
) -> None:
    room = start(TextEncoder, workspace, engine="onnx", precision="int8")
    assert nearest(asyncio.run(send(room, texts(TEXTS))), clip_mini) > 0.999
    documents = texts(["a red dress"])
    asyncio.run(room.encode(documents, {"artifact": TUNED}))
    error = error_of(documents[0])
    assert type(error) is ArtifactNotFound
    assert "model-int8.onnx for precision int8" in str(error)


def test_bf16_images_are_nearly_the_same(
    start: Start, workspace: Workspace, clip_mini: Clip, images: list[bytes]
) -> None:
    docs = DocumentArray([Document(blob=blob) for blob in images])
    asyncio.run(send(start(VisionEncoder, workspace, precision="bf16"), docs))
    expected = clip_mini.encode_images([decode(blob) for blob in images])
    assert (docs.embeddings * expected).sum(axis=1).min() > 0.999


def test_draft_decodes_large_jpegs_coarsely_and_small_ones_exactly(
    start: Start, workspace: Workspace, clip_mini: Clip, images: list[bytes]
) -> None:
    enlarged = [decode(blob).resize((1000, 750), Image.Resampling.BICUBIC) for blob in images]
    blobs = [*images]
    for image in enlarged:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        blobs.append(file.getvalue())
    docs = DocumentArray([Document(blob=blob) for blob in blobs])
    asyncio.run(send(start(VisionEncoder, workspace, draft=4), docs))
    differences = np.abs(docs.embeddings - clip_mini.encode_images([decode(blob) for blob in blobs])).max(axis=1)
    assert differences[:6].max() < 1e-5
    assert 1e-4 < differences[6:].min() < differences[6:].max() < 0.01


def test_bf16_is_not_fp32(clip_mini: Clip) -> None:
    runners = [Runner(clip_mini, TEXT, EngineSettings(precision=precision)) for precision in ("fp32", "bf16")]
    items = [runners[0].prepare(Document(text=text), bytes) for text in TEXTS]
    difference = np.abs(runners[0].run(items) - runners[1].run(items)).max()
    assert 1e-5 < difference < 0.05


def test_bf16_of_a_vision_transformer_on_a_cpu_halves_its_weights(clip_mini: Clip, images: list[bytes]) -> None:
    runners = [
        Runner(load_backbone(find_backbone("clip-mini")), VISION, EngineSettings(precision=precision))
        for precision in ("fp32", "bf16")
    ]
    items = [runners[0].prepare(Document(blob=blob), bytes) for blob in images]
    difference = np.abs(runners[0].run(items) - runners[1].run(items)).max()
    assert 1e-5 < difference < 0.05
    text = sum(value.nbytes for name, value in clip_mini.network.state_dict().items() if "visual." not in name)
    assert runners[1].bytes - text < 0.55 * (runners[0].bytes - text)


def test_the_canary_warms_a_full_batch_and_one_document(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, sizes = Runner(clip_mini, TEXT, EngineSettings(), batch_size=8), []
    run = runner.run
    monkeypatch.setattr(runner, "run", lambda items: sizes.append(len(items)) or run(items))
    runner.check()
    assert sizes == [8, 1]


@pytest.mark.parametrize(
    "text",
    [
        "a red dress " * 8000,
        "naïve &amp; größer\n" * 5000,
        " " * 90_000 + "a red dress",
        "x" * 100_000,
        "x " * 9000,
        "🎽 " * 5000,
    ],
)
def test_the_start_of_a_long_text_has_its_tokens(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    runner = Runner(clip_mini, TEXT, EngineSettings())
    expected, read = clip_mini.tokenizer([text])[0], []
    tokenizer = runner._tokenizer
    monkeypatch.setattr(runner, "_tokenizer", lambda texts: read.append(len(texts[0])) or tokenizer(texts))
    assert torch.equal(runner.prepare(Document(text=text), bytes), expected)
    assert (max(read) < LONG) == (text[0] != " " and " " in text[:LONG])


def test_compile_reaches_the_tower(clip_mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **_: compiled.append(module))
    Runner(clip_mini, TEXT, EngineSettings(compile=True))
    assert compiled == [*clip_mini.network.transformer.resblocks]
