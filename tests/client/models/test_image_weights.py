"""Weights of image models: pretrained, from files, saved and loaded, with heads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from finetuner.catalogue import fashion
from finetuner.documents.images import decode
from finetuner.exceptions import CorruptedArtifact, InvalidInput, KeysMismatchError, NoSuchModel
from finetuner.models import image_weights, weights
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import (
    check_image_weights,
    load_image_backbone,
    load_image_model,
    save_image_model,
    with_head,
)
from finetuner.models.model_kinds import check_row_weights, load_model, save_model

RANDOM = Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image", output_dim=96)
TAGGED = replace(RANDOM, name="resnet-base", architecture="resnet50", pretrained="a1_in1k")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [decode(image.jpeg) for image in fashion("train", items=2)]


@pytest.fixture
def model() -> ImageModel:
    return load_image_backbone(RANDOM)


def of_file(file: Path) -> Backbone:
    return replace(RANDOM, name=f"test_resnet::{file}", pretrained=str(file))


def test_preprocessing_is_that_of_the_pretrained_weights() -> None:
    settings = timm.get_pretrained_cfg("resnet50.a1_in1k")
    found = image_weights._preprocess(TAGGED)
    assert (found.size, found.mean, found.std) == (224, settings.mean, settings.std)
    assert (found.interpolation, found.crop_pct) == ("bicubic", 0.95)


@pytest.mark.parametrize(
    ("output_dim", "freeze", "dim"), [(None, False, 96), (16, False, 16), (16, True, 16), (None, True, 96)]
)
def test_heads_and_freezing(
    model: ImageModel, images: list[Image.Image], output_dim: int | None, freeze: bool, dim: int
) -> None:
    with_head(model, output_dim, freeze=freeze)
    assert model.encode_images(images).shape == (4, dim)
    assert model.dim == model.network.dim == dim
    kinds = [type(layer).__name__ for layer in model.network.head.children()]
    assert kinds == (["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"] if output_dim or freeze else [])
    model.network.train()
    assert model.network.training
    assert model.network.features.training != freeze
    assert all(parameter.requires_grad != freeze for parameter in model.network.features.parameters())
    assert all(parameter.requires_grad for parameter in model.network.head.parameters())


def test_a_head_is_kept_and_not_replaced(model: ImageModel) -> None:
    with_head(model, 16, freeze=False)
    head = model.network.head
    with_head(model, 16, freeze=True)
    with_head(model, None, freeze=True)
    assert model.network.head is head
    with pytest.raises(InvalidInput, match="output_dim must be 16, .* Got 8"):
        with_head(model, 8, freeze=False)


@pytest.mark.parametrize("options", [{}, {"pooler": "GeM", "pooler_options": {"p": 2.4, "eps": 1e-5}}])
@pytest.mark.parametrize("output_dim", [None, 16])
def test_a_saved_model_is_loaded_bit_for_bit(
    tmp_path: Path, images: list[Image.Image], options: dict[str, Any], output_dim: int | None
) -> None:
    model = load_image_backbone(RANDOM, model_options=options)
    with_head(model, output_dim, freeze=False)
    save_model(model, tmp_path / "models")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == ["models/test_resnet/image_model.json", "models/test_resnet/weights.safetensors"]
    again = load_model(tmp_path / "models", "an artifact")
    assert isinstance(again, ImageModel)
    assert (again.model_id, again.config, again.towers) == ("an artifact", model.config, ("test_resnet",))
    own = model.network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in again.network.state_dict().items())
    np.testing.assert_array_equal(again.encode_images(images), model.encode_images(images))


def test_damaged_files_are_refused(tmp_path: Path, model: ImageModel) -> None:
    save_image_model(model, tmp_path)
    folder = tmp_path / "test_resnet"
    state = load_file(folder / "weights.safetensors")
    save_file({**state, "extra": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(KeysMismatchError, match="extra"):
        load_image_model(tmp_path, "x")
    save_file(state, folder / "weights.safetensors")
    config = json.loads((folder / "image_model.json").read_text())
    (folder / "image_model.json").write_text(json.dumps(config | {"output_dim": 5}))
    with pytest.raises(KeysMismatchError, match="head"):
        load_image_model(tmp_path, "x")
    for wrong in ({"architecture": "no such one"}, {"pooling": "max"}, {"preprocess": 3}, {"unknown": 1}):
        (folder / "image_model.json").write_text(json.dumps(config | wrong))
        with pytest.raises(CorruptedArtifact):
            load_image_model(tmp_path, "x")
    (folder / "image_model.json").write_text("{")
    with pytest.raises(CorruptedArtifact):
        load_image_model(tmp_path, "x")


def test_random_weights_are_the_same_each_time(model: ImageModel) -> None:
    state = torch.get_rng_state()
    again = load_image_backbone(RANDOM).network.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_file_with_classifier_is_loaded(tmp_path: Path, suffix: str) -> None:
    trained = timm.create_model("test_resnet", num_classes=7)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": trained.state_dict()}, file)
    else:
        save_file(trained.state_dict(), file)
    own = load_image_backbone(of_file(file)).network.features.state_dict()
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in own.items())


def test_an_artifacts_weights_are_a_checkpoint(tmp_path: Path, model: ImageModel) -> None:
    with_head(model, 16, freeze=False)
    save_image_model(model, tmp_path)
    again = load_image_backbone(of_file(tmp_path / "test_resnet" / "weights.safetensors"))
    assert torch.equal(again.network.features.state_dict()["conv1.0.weight"], model.network.features.conv1[0].weight)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), other)
    with pytest.raises(KeysMismatchError, match="must hold weights of test_resnet"):
        load_image_backbone(of_file(other))
    for number, content in enumerate(([1, 2], {"a": 1}, _Evil())):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(KeysMismatchError):
            load_image_backbone(of_file(tmp_path / f"{number}.pt"))


def test_a_server_reads_checkpoints_of_one_folder_only(tmp_path: Path, model: ImageModel) -> None:
    save_file(model.network.features.state_dict(), tmp_path / "outside.safetensors")
    inside = tmp_path / "weights"
    inside.mkdir()
    for file in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "missing.pt"):
        with pytest.raises(NoSuchModel, match=r"test_resnet::\.\.\. must name a tag \(r160_in1k\)"):
            check_row_weights(of_file(Path(file)), inside)
    save_file(model.network.features.state_dict(), inside / "mine.safetensors")
    check_image_weights(of_file(Path("mine.safetensors")), inside)
    check_image_weights(TAGGED)
    check_image_weights(RANDOM)


def test_unavailable_weights_are_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("FINETUNER_WEIGHTS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "HUB_SECONDS", 0.1)
    with pytest.raises(NoSuchModel) as caught:
        load_image_backbone(replace(TAGGED, architecture="test_resnet", pretrained="r160_in1k"))
    message = str(caught.value)
    assert "models--timm--test_resnet.r160_in1k/snapshots/<commit>/model.safetensors" in message
    assert "$FINETUNER_WEIGHTS is not set" in message
    assert "test_resnet::path/to/weights.safetensors" in message
    assert "\n" not in message


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext", "levit_128s"])
@pytest.mark.seconds
def test_any_timm_network_is_loaded_saved_and_loaded(
    tmp_path: Path, images: list[Image.Image], architecture: str
) -> None:
    folder = tmp_path / "weights"
    (folder / architecture).mkdir(parents=True)
    row = find_backbone(architecture)
    trained = timm.create_model(architecture)  # with its classifier
    save_file(trained.state_dict(), folder / architecture / f"{row.pretrained}.safetensors")
    model = load_image_backbone(row, weights_folder=folder, model_options={"pooler": "GeM"})
    own = model.network.features.state_dict()
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in own.items())
    save_model(model, tmp_path / "models")
    again = load_model(tmp_path / "models", "x")
    np.testing.assert_array_equal(again.encode_images(images), model.encode_images(images))
