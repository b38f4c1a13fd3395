"""`/encode` of one artifact, compared with the models themselves. Every setting has an effect or is refused."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

import finetuner
from finetuner.artifacts.archive import zip_artifact
from finetuner.contract.environment import PRIVATE_URIS
from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.exceptions import (
    ArtifactNotFound,
    FinetunerServerError,
    FlowUnreachable,
    InvalidDocument,
    InvalidInput,
    SelectModelRequired,
)
from finetuner.executors.encoder.lane.runner import Runner
from finetuner.executors.finetuner_executor.executor import FinetunerExecutor
from finetuner.executors.finetuner_executor.threads import set_threads

from .conftest import CLIP_ID, IMAGES_ID

TEXTS = ["a red dress", "ein blaues Hemd", "shoes"]


def encoded(executor: FinetunerExecutor, *documents: Document) -> DocumentArray:
    docs = DocumentArray(documents)
    asyncio.run(executor.encode(docs=docs, parameters={"of": "another executor"}))
    return docs


@pytest.fixture(scope="module")
def both(clip_folder: Path) -> FinetunerExecutor:
    return FinetunerExecutor(artifact=str(clip_folder))


def test_texts_and_images_go_to_their_towers(both: FinetunerExecutor, clip_folder: Path, jpeg: bytes) -> None:
    found = encoded(both, *(Document(text=text) for text in TEXTS), Document(blob=jpeg))
    texts = finetuner.encode(finetuner.get_model(str(clip_folder), select_model="clip-text"), TEXTS)
    image = DocumentArray([Document(blob=jpeg)])
    finetuner.encode(finetuner.get_model(str(clip_folder), select_model="clip-vision"), image)
    np.testing.assert_allclose(found.embeddings, np.concatenate([texts, image.embeddings]), atol=1e-6)
    assert {document.tags[ARTIFACT_TAG] for document in found} == {CLIP_ID}


def test_dimensions_of_an_artifact_with_whole_vectors_alone(both: FinetunerExecutor, jpeg: bytes) -> None:
    docs = DocumentArray([Document(text="a"), Document(blob=jpeg)])
    asyncio.run(both.encode(docs=docs, parameters={"dimensions": 64}))
    for document in docs:
        assert f"dimensions must be 128, the size of the embeddings of {CLIP_ID}. Got 64" in str(error_of(document))
    asyncio.run(both.encode(docs=docs, parameters={"dimensions": 128}))
    assert docs.embeddings.shape == (2, 128)


def test_a_zip_and_a_selected_tower(clip_folder: Path, tmp_path: Path, jpeg: bytes, both: FinetunerExecutor) -> None:
    archive = zip_artifact(clip_folder, tmp_path / "clip.zip", "clip")
    executor = FinetunerExecutor(artifact=str(archive), select_model="clip-text")
    found = encoded(executor, Document(text=TEXTS[0]), Document(blob=jpeg))
    np.testing.assert_allclose(found[0].embedding, encoded(both, Document(text=TEXTS[0]))[0].embedding, atol=1e-6)
    assert "must hold a text for clip-text" in str(error_of(found[1]))
    assert found[1].embedding is None


def test_a_model_of_images(images_folder: Path, jpeg: bytes) -> None:
    executor = FinetunerExecutor(artifact=str(images_folder))
    found = encoded(executor, Document(blob=jpeg), Document(text="a red dress"))
    assert found[0].embedding.shape == (96,)
    assert found[0].tags[ARTIFACT_TAG] == IMAGES_ID
    assert "must hold an image" in str(error_of(found[1]))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "must have text, blob, tensor or uri"),
        ({"blob": b"no image"}, "image file such as JPEG or PNG"),
        ({"uri": "/etc/passwd"}, "http://, https:// or data: here"),
        ({"uri": "http://127.0.0.1:9/a.jpg"}, "public address"),
    ],
)
def test_a_bad_document_carries_its_error(both: FinetunerExecutor, bad: dict[str, Any], message: str) -> None:
    found = encoded(both, Document(text="good"), Document(**bad))
    assert error_of(found[0]) is None
    assert isinstance(error_of(found[1]), InvalidDocument)
    assert message in str(error_of(found[1]))


def test_private_addresses_are_read_if_the_operator_allows_it(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = Document(uri="http://127.0.0.1:9/a.jpg")
    allowed = FinetunerExecutor(artifact=str(clip_folder), select_model="clip-vision", private_uris=True)
    assert "must be reachable" in str(error_of(encoded(allowed, unreachable)[0]))
    monkeypatch.setenv(PRIVATE_URIS, "true")
    allowed = FinetunerExecutor(artifact=str(clip_folder), select_model="clip-vision")
    assert "must be reachable" in str(error_of(encoded(allowed, unreachable)[0]))


def test_an_error_of_the_model_is_on_every_document(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FinetunerExecutor(artifact=str(clip_folder), select_model="clip-text")

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(Runner, "run", fail)
    found = encoded(executor, Document(text="a"), Document(text="b"))
    assert {type(error_of(document)) for document in found} == {FinetunerServerError}


def test_batch_size_bounds_the_documents_of_a_forward_pass(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = FinetunerExecutor(artifact=str(clip_folder), select_model="clip-text", batch_size=2)
    passes, run = [], Runner.run

    def counted(runner: Runner, items: list[Any]) -> np.ndarray:
        passes.append(len(items))
        return run(runner, items)

    monkeypatch.setattr(Runner, "run", counted)
    encoded(executor, *(Document(text=text) for text in TEXTS))
    assert passes == [2, 1]


def test_the_log_has_the_requested_level(clip_folder: Path) -> None:
    executor = FinetunerExecutor(artifact=str(clip_folder), select_model="clip-text", logging_level="ERROR")
    assert executor.logger.logger.level == logging.ERROR


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"artifact": None}, InvalidInput, "artifact must be"),
        ({"artifact": "nowhere/else"}, ArtifactNotFound, "Got 'nowhere/else'"),
        ({"artifact": CLIP_ID}, FlowUnreachable, "a Flow must answer at grpc://127.0.0.1:"),
        ({"select_model": "clip-audio"}, SelectModelRequired, "one of clip-text, clip-vision"),
        ({"batch_size": 0}, InvalidInput, r"batch_size must be a whole number in \[1, 4096\]. Got 0"),
        ({"device": "warp"}, Exception, "warp"),
        ({"is_onnx": True}, ArtifactNotFound, "onnx"),
        ({"is_onnx": True, "intra_op_num_threads": 1}, InvalidInput, "must be left out with is_onnx"),
        ({"logging_level": "LOUD"}, InvalidInput, "one of DEBUG"),
        ({"omp_num_threads": 0}, InvalidInput, "omp_num_threads must be 1 to"),
        ({"inter_op_num_threads": "two"}, InvalidInput, "inter_op_num_threads must be 1 to"),
        ({"omp_num_threads": 1, "intra_op_num_threads": 2}, InvalidInput, "must be equal.* Got 1 and 2"),
        ({"artifact": 12345}, InvalidInput, "artifact must be a string. Got 12345"),
        ({"private_uris": "no"}, InvalidInput, "private_uris must be True or False. Got 'no'"),
        ({"artefact": "a"}, InvalidInput, "uses_with of FinetunerExecutor must be of artifact, .*Got artefact"),
    ],
)
def test_wrong_settings_are_refused_at_the_start(
    options: dict[str, Any], error: type[Exception], message: str, clip_folder: Path, unused_port: int
) -> None:
    given = {"artifact": str(clip_folder), "host": f"127.0.0.1:{unused_port}", **options}
    with pytest.raises(error, match=message):
        FinetunerExecutor(**given)


THREADS = """
import sys
from finetuner.executors.finetuner_executor.threads import set_threads
set_threads({arguments})
import torch
print(torch.get_num_threads(), torch.get_num_interop_threads())
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("threads=3, operations=2", "3 2"), pytest.param("threads=4, operations=None", "4 ", marks=pytest.mark.slow)],
)
def test_threads(arguments: str, expected: str) -> None:
    code = THREADS.format(arguments=arguments)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith(expected)


FORKED = """
import multiprocessing, torch
from finetuner.executors.finetuner_executor.threads import set_threads
torch.set_num_threads(2)
(torch.randn(500, 500) @ torch.randn(500, 500)).sum()  # starts OpenMP's threads, which a fork does not copy
def room():
    print(set_threads(None, None))
    print(torch.softmax(torch.randn(2000, 2000), 1).sum().item() > 0, torch.get_num_threads())
    try:
        set_threads(2, None)
    except Exception as error:
        print(error, flush=True)
process = multiprocessing.get_context("fork").Process(target=room)
process.start()
process.join(200)
process.kill()
"""


@pytest.mark.process
def test_a_process_forked_from_one_with_torch_computes_with_one_thread() -> None:
    found = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=250)
    forked, computed, refused = found.stdout.splitlines()
    assert forked == "True"
    assert computed == "True 1"
    assert "JINA_MP_START_METHOD=spawn" in refused


def test_without_a_number_torch_keeps_its_own() -> None:
    assert set_threads(None, None) is False
