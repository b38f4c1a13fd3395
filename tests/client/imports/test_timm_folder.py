"""A folder that timm saved becomes an image model with timm's own vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf

from finetuner.artifacts.load import load_artifact
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput, KeysMismatchError, NoSuchModel
from finetuner.exports.timm_folder import write_timm
from finetuner.imports.artifact import import_model
from finetuner.imports.timm_folder import read_timm
from finetuner.inference.local import build_model
from tests.client.exports.test_export import image_model

pytestmark = pytest.mark.seconds


@pytest.fixture(scope="module")
def given() -> Any:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=7).eval()


@pytest.fixture
def folder(given: Any, tmp_path: Path) -> Path:
    save_for_hf(given, tmp_path / "given", safe_serialization=True)
    return tmp_path / "given"


def test_vectors_are_timms(given: Any, folder: Path, tmp_path: Path) -> None:
    made = import_model(folder, tmp_path / "workspace", "mine")
    assert isinstance(made, Path)
    model, image = load_artifact(made), Image.linear_gradient("L").convert("RGB")
    pixels = create_transform(**resolve_model_data_config(given))(image)[None]
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(given.forward_head(given.forward_features(pixels), pre_logits=True))
    np.testing.assert_allclose(model.encode_images([image]), expected.numpy(), atol=1e-5)
    assert model.towers == ("resnet10t",)
    row = "imported-image::resnet10t"
    config = RunConfig(model=row, model_artifact=made.name, train_data="images", experiment_name="e", run_name="r")
    assert config.loss == "TripletMarginLoss"
    with pytest.raises(InvalidInput, match="must have weights of its own without model_artifact"):
        RunConfig(model=row, train_data="images", experiment_name="e", run_name="r")
    with pytest.raises(NoSuchModel, match="imported-image::resnet10t has weights in artifacts alone. Got no artifact"):
        build_model(row)


def test_an_export_comes_back_as_it_was(tmp_path: Path) -> None:
    model, image = image_model(), Image.linear_gradient("L").convert("RGB")
    write_timm(model, tmp_path)
    again = read_timm(tmp_path)
    np.testing.assert_allclose(again.encode_images([image]), model.encode_images([image]), atol=1e-6)
    assert again.config.preprocess == model.config.preprocess


def change(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        config = json.loads(file.read_text())
        config["pretrained_cfg"] |= {name: value for name, value in values.items() if name in config["pretrained_cfg"]}
        config |= {name: value for name, value in values.items() if name not in config["pretrained_cfg"]}
        file.write_text(json.dumps(config))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(architecture="../../evil"), "must be one that timm lists. Got '../../evil'"),
        (change(architecture=5), "must be one that timm lists. Got 5"),
        (change(architecture="resnet18"), "must hold weights of resnet18"),
        (change(model_args={"depth": 3}), "must have no model_args but"),
        (change(pretrained_cfg=None), "must say how images are prepared. it must have a pretrained_cfg"),
        (change(input_size=[1, 64, 64]), "input_size must be three colours of a square"),
        (change(input_size=[3, 10**6, 10**6]), "must say how images are prepared. input_size must be"),
        (change(mean=[0.5, "x", 0.5]), "must say how images are prepared"),
        (change(interpolation="nearest"), "must be resized bicubic or bilinear"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "may hold a program"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04K"), "must hold only weights|safetensors"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(spoil: Callable[[Path], Any], message: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises((InvalidInput, KeysMismatchError), match=message):
        read_timm(folder)
