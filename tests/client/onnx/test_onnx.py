"""Towers in ONNX: the embeddings that torch gives, for any batch size and text length, without torch's weights."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from PIL import Image
from torch import nn
from transformers import XLMRobertaConfig

import finetuner
from finetuner.artifacts.archive import zip_artifact
from finetuner.artifacts.load import load_onnx_artifact
from finetuner.artifacts.manifest import MANIFEST, sealed, sha256_of, verify_artifact
from finetuner.artifacts.publish import publish_artifact
from finetuner.documents.images import decode
from finetuner.documents.pairs import Pair
from finetuner.evaluation.pairs import evaluate_pairs
from finetuner.exceptions import (
    ArtifactNotFound,
    CorruptedArtifact,
    CorruptedONNXModel,
    FinetunerError,
    InvalidInput,
)
from finetuner.inference.encoding import Encoder
from finetuner.inference.local import build_model
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import load_image_backbone
from finetuner.onnx import export as onnx_export
from finetuner.onnx import int8 as onnx_int8
from finetuner.onnx.export import as_onnx, export_onnx
from finetuner.onnx.int8 import cost_of_int8
from finetuner.onnx.model import ONNX_FILE
from finetuner.onnx.session import TOKENS, SessionOptions, open_session, providers
from finetuner.workspace.folder import Workspace
from tests.client.conftest import ARTIFACT_ID, manifest

TEXTS = ["a red dress", "ein blaues Hemd", "x", "", "a very long caption " * 50]
PADDING = 1


@pytest.fixture(scope="module")
def with_onnx(tmp_path_factory: pytest.TempPathFactory, mini: Clip) -> Path:
    """Return the folder of a published artifact with ONNX files; tests that change it copy it first."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    return publish_artifact(workspace, mini, manifest(), {"model": "clip-mini"}, to_onnx="int8")


@pytest.fixture
def damaged(with_onnx: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    """Return the maker of an artifact whose text tower's ONNX file has other content, and a manifest that fits."""

    def damaged(content: bytes) -> Path:
        folder, name = tmp_path / "damaged", f"models/{TEXT}/{ONNX_FILE}"
        shutil.copytree(with_onnx, folder)
        (folder / name).write_bytes(content)
        described = json.loads((folder / MANIFEST).read_text())
        described["files"][name] = {"size": len(content), "sha256": sha256_of(folder / name)}
        (folder / MANIFEST).write_text(sealed(described))
        return folder

    return damaged


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)) for _ in range(5)]


def custom_text_clip() -> Clip:
    """Return a small CLIP of random weights whose text tower takes one length only, as most of open_clip's do."""
    torch.manual_seed(0)
    text = {"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
    network = open_clip.CustomTextCLIP(16, vision, text | {"no_causal_mask": True, "pool_type": "last"}).eval()
    network.visual.preprocess_cfg = {"size": 32}
    return Clip(network, letters, {"embed_dim": 16}, "custom-text")


def xlm_roberta_clip() -> Clip:
    """Return the same with XLM-R as its text tower."""
    model = custom_text_clip()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = XLMRobertaConfig(vocab_size=100, max_position_embeddings=20, **sizes)
    model.network.text = HFTextEncoder("", 16, config, pooler_type="mean_pooler", proj_type="mlp").eval()
    return model


def letters(texts: list[str]) -> torch.Tensor:
    """Return one token a letter between a start and an end token, padded to 12."""
    rows = [[2, *(10 + ord(letter) % 80 for letter in text[:10]), 3] for text in texts]
    return torch.tensor([row + [PADDING] * (12 - len(row)) for row in rows])


def largest_difference(torch_model: Encoder, onnx: Encoder, tower: str, items: list[Any]) -> float:
    ours, theirs = (
        (model.encode_texts if tower == TEXT else model.encode_images)(items, batch_size=2)
        for model in (torch_model, onnx)
    )
    assert theirs.dtype == np.float32
    assert theirs.shape == (len(items), torch_model.dim)
    return float(np.abs(ours - theirs).max())


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


@pytest.mark.parametrize(("make", "lengths"), [(xlm_roberta_clip, [7, 12]), (custom_text_clip, [12, 12])])
def test_other_text_towers(make: Callable[[], Clip], lengths: list[int]) -> None:
    model = make()
    onnx = as_onnx(model, TEXT)
    assert largest_difference(model, onnx, TEXT, TEXTS) < 1e-4
    assert [onnx._cut(letters([text]).numpy()).shape[1] for text in ("12345", "1234567890")] == lengths


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet50::random", {}), ("efficientnet_b0::random", {"pooler": "GeM"})],
)
def test_models_of_images(tmp_path: Path, images: list[Image.Image], name: str, options: dict[str, str]) -> None:
    model = load_image_backbone(find_backbone(name), model_options=options)
    assert max(export_onnx(model, tmp_path).values()) < 1e-4
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.onnx")] == [
        f"{model.towers[0]}/model.onnx"
    ]
    assert model.network.training is False


def test_an_artifact_of_images_is_loaded(tmp_path: Path, images: list[Image.Image], random_mini: ImageModel) -> None:
    described = replace(manifest(), towers=list(random_mini.towers), output_dim=random_mini.dim)
    folder = publish_artifact(Workspace(tmp_path), random_mini, described, {}, to_onnx=True)
    onnx = finetuner.get_model(str(folder), is_onnx=True, device="cpu").encoder
    assert largest_difference(random_mini, onnx, random_mini.towers[0], images) < 1e-4


@pytest.fixture
def random_mini(monkeypatch: pytest.MonkeyPatch) -> ImageModel:
    monkeypatch.setenv("FINETUNER_STAND_INS", "1")
    return load_image_backbone(find_backbone("resnet-mini-random"))


def test_get_model_takes_folder_and_zip_and_builds_no_network(
    with_onnx: Path, mini: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: pytest.fail("torch's network was built"))
    zipped = zip_artifact(with_onnx, tmp_path / "first-run.zip", "first-run")
    for place in (with_onnx, zipped):
        model = finetuner.get_model(str(place), select_model=TEXT, is_onnx=True, device="cpu")
        assert np.abs(finetuner.encode(model, TEXTS[:3]) - mini.encode_texts(TEXTS[:3])).max() < 1e-4
        assert model.encoder.model_id == ARTIFACT_ID
    assert verify_artifact(with_onnx).files[f"models/{VISION}/model.onnx"]["size"] > 1_000_000


def test_build_model_exports_the_backbone(mini: Clip) -> None:
    model = build_model("clip-mini", select_model=TEXT, is_onnx=True, device="cpu")
    assert np.abs(finetuner.encode(model, TEXTS[:3]) - mini.encode_texts(TEXTS[:3])).max() < 1e-4
    assert repr(model.encoder) == "OnnxModel('clip-mini', 'clip-text', dim=128)"


def test_an_artifact_without_onnx_says_what_to_do(published: Path) -> None:
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
def test_a_file_that_is_no_model(damaged: Callable[[bytes], Path], content: bytes) -> None:
    with pytest.raises(CorruptedONNXModel, match="must be a model that ONNX Runtime loads. It is not: "):
        finetuner.get_model(str(damaged(content)), select_model=TEXT, is_onnx=True)


def test_the_other_towers_file(damaged: Callable[[bytes], Path], with_onnx: Path) -> None:
    folder = damaged((with_onnx / "models" / VISION / ONNX_FILE).read_bytes())
    with pytest.raises(CorruptedONNXModel, match="must have the input and output .*tokens.* Got .*pixels"):
        finetuner.get_model(str(folder), select_model=TEXT, is_onnx=True)


def test_a_model_of_another_size(with_onnx: Path) -> None:
    with pytest.raises(CorruptedONNXModel, match=r"\[64\].* Got .*\[128\]"):
        open_session(with_onnx / "models" / TEXT / ONNX_FILE, TOKENS, 64)


def test_a_tower_takes_its_own_kind_of_input_only(with_onnx: Path, images: list[Image.Image]) -> None:
    with pytest.raises(InvalidInput, match="holds clip-vision only. Got tokens"):
        load_onnx_artifact(with_onnx, VISION).encode_texts(["a red dress"])
    with pytest.raises(InvalidInput, match="holds clip-text only. Got pixels"):
        load_onnx_artifact(with_onnx, TEXT).encode_images(images)


@pytest.mark.parametrize("device", ["tpu", "cpux", "cuda:x", "cpu:", "tensorrt"])
def test_a_device_that_is_not_there(with_onnx: Path, device: str) -> None:
    with pytest.raises(InvalidInput, match=f"device must be one that ONNX Runtime has.*Got {device!r}"):
        load_onnx_artifact(with_onnx, TEXT, device)


def test_a_provider_that_is_installed_comes_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
    cpu, cuda = ("CPUExecutionProvider", {}), ("CUDAExecutionProvider", {"device_id": 0})
    assert providers("cpu") == [cpu]
    assert providers("cuda") == providers() == [cuda, cpu]
    assert providers("cuda:2")[0] == ("CUDAExecutionProvider", {"device_id": 2})
    assert providers("tensorrt") == [("TensorrtExecutionProvider", {"device_id": 0}), cuda, cpu]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_no_cpu(with_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
    with pytest.raises(InvalidInput, match="Got 'cuda', and CUDAExecutionProvider does not start. Install"):
        load_onnx_artifact(with_onnx, TEXT, "cuda")


def test_options_reach_the_session(with_onnx: Path, mini: Clip) -> None:
    given = {"graph_optimization_level": "basic", "allow_spinning": False, "enable_cpu_mem_arena": False}
    onnx = load_onnx_artifact(with_onnx, TEXT, "cpu", session_options=SessionOptions.read(given, threads=3))
    found = onnx.session.get_session_options()
    assert found.intra_op_num_threads == 3
    assert found.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert found.enable_cpu_mem_arena is False
    assert np.abs(onnx.encode_texts(TEXTS) - mini.encode_texts(TEXTS)).max() < 1e-4


@pytest.mark.parametrize(
    "given",
    [
        {"graph_optimization_level": "most"},
        {"allow_spinning": 1},
        {"enable_cpu_mem_arena": "no"},
        {"intra_op_num_threads": 2},
        ["allow_spinning"],
    ],
    ids=str,
)
def test_wrong_options(given: Any) -> None:
    with pytest.raises(InvalidInput, match="Got "):
        SessionOptions.read(given)


def test_int8_is_nearly_the_same_in_fewer_bytes(with_onnx: Path, mini: Clip, images: list[Image.Image]) -> None:
    for tower, items in ((TEXT, TEXTS), (VISION, images)):
        exact, int8 = (load_onnx_artifact(with_onnx, tower, int8=int8) for int8 in (False, True))
        assert int8.bytes < 0.6 * exact.bytes
        assert 1e-5 < largest_difference(mini, int8, tower, items) < 0.1
        assert int8._padding == exact._padding


def test_int8_costs_recall_on_pairs_or_else_an_angle(
    with_onnx: Path, mini: Clip, jpeg: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, vision = (load_onnx_artifact(with_onnx, tower, int8=True) for tower in TOWERS)
    pairs = [Pair(f"image {row}", jpeg(row)) for row in range(6)]
    lines = cost_of_int8(mini, text, vision, pairs, (), [])
    assert re.fullmatch(
        r"int8 on 6 texts of evaluation data: text_to_image_recall_at_5 [01]\.\d{4} -> [01]\.\d{4}, "
        r"image_to_text_recall_at_5 [01]\.\d{4} -> [01]\.\d{4}",
        lines[0],
    )
    assert f"recall_at_5 {evaluate_pairs(mini, pairs)['text_to_image_recall_at_5']:.4f} -> " in lines[0]
    angles = cost_of_int8(mini, text, vision, [], TEXTS, [decode(jpeg(0))])
    assert [line.split(":")[0] for line in angles] == ["int8 of clip-text", "int8 of clip-vision"]
    cosine = (mini.encode_texts(TEXTS) * text.encode_texts(TEXTS)).sum(axis=1)
    assert f"cosine to fp32 {cosine.mean():.4f} on average, {cosine.min():.4f} at least" in angles[0]
    monkeypatch.setattr(onnx_int8, "MAX_PAIRS", 2)
    assert "on 2 texts" in cost_of_int8(mini, text, vision, pairs, (), [])[0]


def test_quantising_says_nothing_to_the_root_logger(with_onnx: Path, tmp_path: Path) -> None:
    code = f"""
import logging
from pathlib import Path
from finetuner.onnx.int8 import quantise
quantise(Path({str(with_onnx / "models" / TEXT / ONNX_FILE)!r}), Path({str(tmp_path)!r}) / "int8.onnx")
assert not logging.getLogger().handlers
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


def test_convolutions_alone_are_refused(random_mini: ImageModel) -> None:
    with pytest.raises(InvalidInput, match="must have matrix products for int8. Got .* Leave int8 out"):
        as_onnx(random_mini, random_mini.towers[0], int8=True)


def test_an_artifact_without_int8_says_what_to_do(published: Path) -> None:
    with pytest.raises(ArtifactNotFound, match=r"model-int8.onnx for precision int8.*fit\(to_onnx='int8'\)"):
        load_onnx_artifact(published, TEXT, int8=True)


class Branching(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(-2, -1)) * (1 if features.sum().item() > 0 else -1)


def test_a_network_that_cannot_be_exported(tmp_path: Path, random_mini: ImageModel) -> None:
    random_mini.network.pooling = Branching()
    with pytest.raises(FinetunerError, match="test_resnet must be exportable to ONNX. Got: .* Leave to_onnx out"):
        export_onnx(random_mini, tmp_path)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_DIFFERENCE", 0.0, "in ONNX must differ from torch by at most 0. Got .*e-0"),
        ("MAX_BYTES", 1000, "must have less than 2 GiB of weights for ONNX. Got"),
    ],
)
def test_a_bad_export_publishes_nothing(
    tmp_path: Path, random_mini: ImageModel, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, message: str
) -> None:
    monkeypatch.setattr(onnx_export, limit, value)
    with pytest.raises(FinetunerError, match=message):
        publish_artifact(Workspace(tmp_path), random_mini, manifest(), {}, to_onnx=True)
    assert not list((tmp_path / "artifacts").iterdir())
