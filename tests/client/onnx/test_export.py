"""Exported towers: torch's embeddings, for any batch size and text length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from PIL import Image
from torch import nn
from transformers import XLMRobertaConfig

import finetuner
from finetuner.artifacts.publish import publish_artifact
from finetuner.exceptions import (
    FinetunerError,
)
from finetuner.inference.local import build_model
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, Clip
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import load_image_backbone
from finetuner.onnx import export as onnx_export
from finetuner.onnx.export import as_onnx, export_onnx
from finetuner.workspace.folder import Workspace
from tests.client.conftest import manifest
from tests.client.onnx.conftest import TEXTS, largest_difference

PADDING = 1


def custom_text_clip() -> Clip:
    """Return a small CLIP of random weights. Its text tower takes one length only, as most of open_clip's do."""
    torch.manual_seed(0)
    text = {"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    network = open_clip.CustomTextCLIP(16, vision, text | {"no_causal_mask": True, "pool_type": "last"}).eval()
    network.visual.preprocess_cfg = {"size": 32}
    return Clip(network, letters, {"embed_dim": 16}, "custom-text")


def xlm_roberta_clip() -> Clip:
    """Return the same CLIP with XLM-R as its text tower."""
    model = custom_text_clip()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = XLMRobertaConfig(vocab_size=100, max_position_embeddings=20, **sizes)
    model.network.text = HFTextEncoder("", 16, config, pooler_type="mean_pooler", proj_type="mlp").eval()
    return model


def letters(texts: list[str]) -> torch.Tensor:
    """Return one token per letter between a start and an end token, padded to 12."""
    rows = [[2, *(10 + ord(letter) % 80 for letter in text[:10]), 3] for text in texts]
    return torch.tensor([row + [PADDING] * (12 - len(row)) for row in rows])


@pytest.mark.parametrize(("make", "lengths"), [(xlm_roberta_clip, [7, 12]), (custom_text_clip, [12, 12])])
@pytest.mark.slow
def test_other_text_towers(make: Callable[[], Clip], lengths: list[int]) -> None:
    model = make()
    onnx = as_onnx(model, TEXT)
    assert largest_difference(model, onnx, TEXT, TEXTS) < 1e-4
    assert [onnx._cut(letters([text]).numpy()).shape[1] for text in ("12345", "1234567890")] == lengths


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test_resnet::random", {}),
        pytest.param("test_efficientnet::random", {"pooler": "GeM"}, marks=pytest.mark.slow),
        pytest.param("resnet50::random", {}, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0::random", {"pooler": "GeM"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.seconds
def test_image_models(tmp_path: Path, images: list[Image.Image], name: str, options: dict[str, str]) -> None:
    model = load_image_backbone(find_backbone(name), model_options=options)
    assert max(export_onnx(model, tmp_path).values()) < 1e-4
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.onnx")] == [
        f"{model.towers[0]}/model.onnx"
    ]
    assert model.network.training is False


@pytest.mark.seconds
def test_an_artifact_of_an_image_model_is_loaded(
    tmp_path: Path, images: list[Image.Image], random_mini: ImageModel
) -> None:
    described = replace(manifest(), towers=list(random_mini.towers), output_dim=random_mini.dim)
    folder = publish_artifact(Workspace(tmp_path), random_mini, described, {}, to_onnx=True)
    onnx = finetuner.get_model(str(folder), is_onnx=True, device="cpu").encoder
    assert largest_difference(random_mini, onnx, random_mini.towers[0], images) < 1e-4


@pytest.mark.slow
def test_build_model_exports_the_backbone(mini: Clip) -> None:
    model = build_model("clip-mini", select_model=TEXT, is_onnx=True, device="cpu")
    assert np.abs(finetuner.encode(model, TEXTS[:3]) - mini.encode_texts(TEXTS[:3])).max() < 1e-4
    assert repr(model.encoder) == "OnnxModel('clip-mini', 'clip-text', dim=128)"


class Branching(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(-2, -1)) * (1 if features.sum().item() > 0 else -1)


@pytest.mark.seconds
def test_a_network_that_cannot_be_exported_is_refused(tmp_path: Path, random_mini: ImageModel) -> None:
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
@pytest.mark.seconds
def test_a_bad_export_publishes_nothing(
    tmp_path: Path, random_mini: ImageModel, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, message: str
) -> None:
    monkeypatch.setattr(onnx_export, limit, value)
    with pytest.raises(FinetunerError, match=message):
        publish_artifact(Workspace(tmp_path), random_mini, manifest(), {}, to_onnx=True)
    assert not list((tmp_path / "artifacts").iterdir())
