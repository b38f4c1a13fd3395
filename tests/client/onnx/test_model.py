"""OnnxModel: equal to torch, without torch's weights, and refused files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
from PIL import Image

import finetuner
from finetuner.artifacts.archive import zip_artifact
from finetuner.artifacts.load import load_onnx_artifact
from finetuner.artifacts.manifest import MANIFEST, sealed, sha256_of, verify_artifact
from finetuner.exceptions import (
    ArtifactNotFound,
    CorruptedArtifact,
    CorruptedONNXModel,
    InvalidInput,
)
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip
from finetuner.onnx.model import ONNX_FILE
from tests.client.conftest import ARTIFACT_ID
from tests.client.onnx.conftest import TEXTS, largest_difference


@pytest.fixture
def damaged(with_onnx: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Return a maker of artifacts with given bytes as the text tower's ONNX file, and a fitting manifest."""

    def damaged(content: bytes) -> Path:
        folder, name = tmp_path / "damaged", f"models/{TEXT}/{ONNX_FILE}"
        shutil.copytree(with_onnx, folder)
        (folder / name).write_bytes(content)
        described = json.loads((folder / MANIFEST).read_text())
        described["files"][name] = {"size": len(content), "sha256": sha256_of(folder / name)}
        (folder / MANIFEST).write_text(sealed(described))
        return folder

    return damaged


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_clip_mini_is_the_same_in_batches_of_any_size(
    with_onnx: Path, mini: Clip, images: list[Image.Image], tower: str, count: int
) -> None:
    onnx = load_onnx_artifact(with_onnx, tower)
    assert onnx.dim == mini.dim
    items = (TEXTS if tower == TEXT else images)[:count]
    assert largest_difference(mini, onnx, tower, items) < 1e-4
    empty = onnx.encode_texts([]) if tower == TEXT else onnx.encode_images([])
    assert empty.shape == (0, mini.dim)


@pytest.mark.parametrize("length", [2, 9, 32])
def test_tokens_may_have_any_length_that_holds_the_text(with_onnx: Path, mini: Clip, length: int) -> None:
    session = load_onnx_artifact(with_onnx, TEXT).session
    tokens = mini.tokenizer([""])[:, :length].numpy()
    (found,) = session.run(None, {"tokens": tokens})
    assert np.abs(found - mini.encode_texts([""])).max() < 1e-4


def test_a_batch_is_cut_to_its_longest_text(with_onnx: Path, mini: Clip) -> None:
    onnx = load_onnx_artifact(with_onnx, TEXT)
    for texts in (TEXTS[:2], TEXTS[3:4], TEXTS):
        tokens = mini.tokenizer(texts)
        assert onnx._cut(tokens.numpy()).shape[1] == int(tokens.argmax(dim=-1).max()) + 1


def test_get_model_takes_folder_and_zip_and_builds_no_network(
    with_onnx: Path, mini: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("torch's network was built"))
    zipped = zip_artifact(with_onnx, tmp_path / "first-run.zip", "first-run")
    for path in (with_onnx, zipped):
        model = finetuner.get_model(str(path), select_model=TEXT, is_onnx=True, device="cpu")
        assert np.abs(finetuner.encode(model, TEXTS[:3]) - mini.encode_texts(TEXTS[:3])).max() < 1e-4
        assert model.encoder.model_id == ARTIFACT_ID
    assert verify_artifact(with_onnx).files[f"models/{VISION}/model.onnx"]["size"] > 1_000_000


def test_an_artifact_without_onnx_is_refused_with_advice(published: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"models/clip-text/model.onnx for is_onnx=True.*fit\(to_onnx=True\)"):
        finetuner.get_model(str(published), select_model=TEXT, is_onnx=True)


def test_a_tampered_file_differs_from_the_manifest(with_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tampered"
    shutil.copytree(with_onnx, folder)
    with open(folder / "models" / TEXT / ONNX_FILE, "r+b") as file:
        file.seek(1000)
        file.write(b"tampered")
    with pytest.raises(CorruptedArtifact, match="clip-text/model.onnx differs from the manifest's SHA-256"):
        finetuner.get_model(str(folder), select_model=TEXT, is_onnx=True)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x0a"])
def test_a_file_that_is_not_a_model_is_refused(damaged: Callable[[bytes], Path], content: bytes) -> None:
    with pytest.raises(CorruptedONNXModel, match="must be a model (that|whose) .* Got: "):
        finetuner.get_model(str(damaged(content)), select_model=TEXT, is_onnx=True)


def test_the_file_of_the_other_tower_is_refused(damaged: Callable[[bytes], Path], with_onnx: Path) -> None:
    folder = damaged((with_onnx / "models" / VISION / ONNX_FILE).read_bytes())
    with pytest.raises(CorruptedONNXModel, match="must have the input and output .*tokens.* Got .*pixels"):
        finetuner.get_model(str(folder), select_model=TEXT, is_onnx=True)


def test_a_tower_takes_its_own_kind_of_input_only(with_onnx: Path, images: list[Image.Image]) -> None:
    with pytest.raises(InvalidInput, match="holds clip-vision only. Got tokens"):
        load_onnx_artifact(with_onnx, VISION).encode_texts(["a red dress"])
    with pytest.raises(InvalidInput, match="holds clip-text only. Got pixels"):
        load_onnx_artifact(with_onnx, TEXT).encode_images(images)
