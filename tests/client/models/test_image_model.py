"""Models of images alone: pooling, head, preprocessing, and what is saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from docarray import Document, DocumentArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from finetuner.catalogue import fashion
from finetuner.documents.images import decode
from finetuner.documents.uris import read_public
from finetuner.exceptions import CorruptedArtifact, InvalidInput, KeysMismatchError, NoSuchModel, SelectModelRequired
from finetuner.inference.encoding import encode_documents
from finetuner.models import image_weights, weights
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_network import Average, GeM, ImageNetwork
from finetuner.models.image_weights import (
    check_image_weights,
    load_image_backbone,
    load_image_model,
    save_image_model,
    tower_of,
    with_head,
)
from finetuner.models.model_kinds import check_row_weights, load_model, load_row, save_model, selected, towers_of

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


def test_gem_is_its_formula() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    pooled = GeM(p=3, eps=1e-6)(features)
    for row in range(2):
        for channel in range(3):
            values = [max(value, 1e-6) for line in features[row, channel].tolist() for value in line]
            expected = (sum(value**3 for value in values) / 20) ** (1 / 3)
            assert pooled[row, channel].item() == pytest.approx(expected, rel=1e-5)


def test_gem_of_one_is_the_average_and_its_exponent_is_learnt() -> None:
    features = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(p=1)(features), features.mean(dim=(-2, -1)))
    pooling = GeM()
    pooling(features).sum().backward()
    assert pooling.p.grad is not None
    assert pooling.p.grad.item() != 0


def test_embeddings_are_timms_features_normalised(model: ImageModel, images: list[Image.Image]) -> None:
    reference = timm.create_model("test_resnet", num_classes=0).eval()
    reference.load_state_dict(model.network.features.state_dict())
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(reference(torch.stack([model.preprocess(p) for p in images])))
    found = model.encode_images(images, batch_size=3)
    assert found.dtype == np.float32
    assert found.shape == (4, 96) == (len(images), model.dim)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert model.encode_images([]).shape == (0, 96)


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
def test_what_is_saved_is_loaded_bit_for_bit(
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


def test_what_was_damaged_is_refused(tmp_path: Path, model: ImageModel) -> None:
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


def test_weights_that_cannot_be_had_are_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_documents_are_encoded(model: ImageModel) -> None:
    first = next(iter(fashion("train", items=1)))
    documents = DocumentArray([Document(blob=first.jpeg), Document(text="a shirt"), Document(blob=b"broken")])
    assert encode_documents(model, documents, read_uri=read_public, towers=model.towers) == (1, 1)
    assert documents[0].tags["finetuner_artifact"] == "resnet-mini-random"
    np.testing.assert_array_equal(documents[0].embedding, model.encode_images([decode(first.jpeg)])[0])
    assert documents[1].embedding is None
    with pytest.raises(InvalidInput, match="encodes images only. Got 1 texts"):
        model.encode_texts(["a shirt"])


def test_kinds_of_rows(tmp_path: Path, model: ImageModel) -> None:
    text_to_image = Backbone("clip-base-en", "ViT-B-32", "openai")
    assert towers_of(text_to_image) == ("clip-text", "clip-vision")
    assert towers_of(TAGGED) == ("resnet50",)
    assert tower_of(replace(TAGGED, architecture="tf_efficientnet_b7")) == "efficientnet_b7"
    assert isinstance(load_row(RANDOM), ImageModel)
    with pytest.raises(InvalidInput, match="model_options must be empty for clip-base-en"):
        load_row(text_to_image, model_options={"pooler": "GeM"})
    save_model(model, tmp_path)
    assert load_model(tmp_path, "x", towers=("clip-vision",)).towers == ("test_resnet",)
    with pytest.raises(InvalidInput, match="holds test_resnet only. Got input for clip-text"):
        load_model(tmp_path, "x", towers=("clip-text",))


@pytest.mark.parametrize(
    ("given", "towers", "expected"),
    [(None, ("a",), "a"), ("a", ("a",), "a"), ("a", ("a", "b"), "a"), (None, ("a", "b"), None), ("c", ("a",), None)],
)
def test_the_only_tower_needs_no_naming(given: str | None, towers: tuple[str, ...], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(SelectModelRequired):
            selected(given, towers, "it")
    else:
        assert selected(given, towers, "it") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooler": "gem"}, "Did you mean 'GeM'"),
        ({"pooler_options": {"p": 3}}, "need pooler='GeM'"),
        ({"pooler": "GeM", "pooler_options": {"q": 3}}, "keys of p, eps"),
        ({"pooler": "GeM", "pooler_options": {"p": 0}}, "number in"),
        ({"head": 3}, "keys of pooler, pooler_options"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_image_backbone(RANDOM, model_options=options)
    assert message in str(caught.value)


@pytest.mark.parametrize("architecture", ["test_convnext", "test_vit", "test_vit2", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("pooling", [GeM(), Average()])
def test_other_networks_are_pooled_over_their_positions(architecture: str, pooling: nn.Module) -> None:
    network = ImageNetwork(architecture, pooling).eval()
    images = torch.rand(2, *network.features.default_cfg["input_size"])
    with torch.inference_mode():
        found = network(images)
        features = network.features.forward_features(images)
        if isinstance(pooling, Average) and architecture != "test_vit":  # which takes its class token
            expected = network.features(images)
        elif features.ndim == 3:
            expected = pooling(features[:, network.features.num_prefix_tokens :].transpose(1, 2)[..., None])
        else:
            expected = pooling(features.permute(0, 3, 1, 2) if architecture.startswith("swin") else features)
        if isinstance(pooling, GeM) and architecture in ("test_convnext", "test_vit2"):  # a layer norm behind
            eps = (network.features.head.norm if architecture == "test_convnext" else network.features.fc_norm).eps
            expected = torch.nn.functional.layer_norm(expected, expected.shape[1:], eps=eps)
    assert found.shape == (2, network.dim)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_network_of_several_maps_is_refused() -> None:
    network = ImageNetwork("test_resnet", Average()).eval()
    network.features.forward_features = lambda images: [images, images]
    with pytest.raises(InvalidInput, match="test_resnet must give one feature map"):
        network(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext", "levit_128s"])
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


@pytest.mark.parametrize("architecture", ["resnet50", "efficientnet_b0", "test_efficientnet"])
def test_architectures_give_feature_maps(architecture: str) -> None:
    network = ImageNetwork(architecture, GeM()).eval()
    expected = {"resnet50": 2048, "efficientnet_b0": 1280, "test_efficientnet": 256}[architecture]
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, network.dim) == (1, expected)
