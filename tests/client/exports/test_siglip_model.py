"""A SigLIP goes to transformers' SiglipModel and comes back, with the same vectors, bias and tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import read_manifest
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput, KeysMismatchError
from finetuner.exports.open_clip_folder import write_open_clip
from finetuner.exports.siglip_model import write_siglip_model
from finetuner.imports import siglip_config
from finetuner.imports.artifact import import_model
from finetuner.imports.clip_model import read_clip
from finetuner.models.clip import Clip
from finetuner.models.text.text_towers import FileTokenizer
from tests.client.exports.small_siglip import KIND, SIZES, padded_tokenizer, siglip
from tests.client.exports.test_export import export, image, published, quiet_transformers

__all__ = ["export", "image", "published", "quiet_transformers"]  # fixtures
pytestmark = pytest.mark.seconds
TEXTS = ["a red dress", "Ein  blaues_Hemd!\nmit (langen) Ärmeln ", "", "striped [socks] \\ ^ men's feet " * 9, "x"]


@pytest.fixture(autouse=True)
def _small_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(siglip_config.KINDS, SIZES, KIND)  # type: ignore[arg-type]


def same(folder: Path, model: Clip, tokenizer: Any, own: Any, image: Image.Image) -> None:
    """Compare the vectors of transformers' model with ours."""
    pixels = SiglipImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    assert torch.equal(tokens["input_ids"], model.tokenizer(TEXTS))
    with torch.inference_mode():
        output = own(**tokens, **pixels)
    np.testing.assert_allclose(output.text_embeds.numpy(), model.encode_texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(output.image_embeds.numpy(), model.encode_images([image]), atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "clean"), [("tanh", "canonicalize"), ("none", "whitespace"), ("none", "lower")], ids=str
)
def test_transformers_gives_our_vectors(activation: str, clean: str, export: Any) -> None:
    model = siglip(activation, clean)
    folder, found, saved = export(model, "transformers")
    assert isinstance(found["model"], SiglipModel)
    same(folder, model, found["tokenizer"], found["model"], saved)
    np.testing.assert_allclose(found["texts"].numpy(), model.encode_texts(["a red dress"]), atol=1e-5)
    np.testing.assert_allclose(found["images"].numpy(), model.encode_images([saved]), atol=1e-5)
    assert found["model"].logit_bias.item() == model.network.logit_bias.item() == -9.5


def write(folder: Path, activation: str = "gelu_pytorch_tanh") -> Any:
    """Write a random SiglipModel, as transformers' own, and return it."""
    text = {
        "vocab_size": 90, "hidden_size": 48, "intermediate_size": 100, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 16, "projection_size": 64, "hidden_act": activation, "bos_token_id": None,
        "eos_token_id": None,
    }  # fmt: skip
    vision = {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 16, "hidden_act": activation,
    }  # fmt: skip
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer = padded_tokenizer()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 16})
    )
    return model


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_vectors_of_a_folder_are_transformers_own(activation: str, tmp_path: Path, image: Image.Image) -> None:
    own = write(tmp_path / "given", activation)
    made = import_model(tmp_path / "given", tmp_path / "workspace")
    assert isinstance(made, Path)
    model = load_artifact(made)
    assert isinstance(model, Clip)
    tokens = model.tokenizer(TEXTS)
    pixels = SiglipImageProcessorPil.from_pretrained(tmp_path / "given")(image, return_tensors="pt")
    with torch.inference_mode():
        output = own(input_ids=tokens, **pixels)
    np.testing.assert_allclose(model.encode_texts(TEXTS), output.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(model.encode_images([image]), output.image_embeds.numpy(), atol=1e-5)
    assert model.network.logit_bias.item() == own.logit_bias.item()
    (tmp_path / "again").mkdir()
    write_siglip_model(model, tmp_path / "again")
    again = load_file(tmp_path / "again/model.safetensors")
    given = load_file(tmp_path / "given/model.safetensors")
    assert given.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in given.items())
    row = read_manifest(made).backbone
    assert row == "imported-siglip"
    config = RunConfig(model=row, model_artifact=made.name, train_data="pairs", experiment_name="e", run_name="r")
    assert config.loss == "SigLIPLoss"


def test_the_tanh_of_an_imported_tower_is_no_open_clip_folder(tmp_path: Path) -> None:
    write(tmp_path / "given")
    with pytest.raises(
        InvalidInput, match="cannot hold a tower of timm with the tanh approximation.*to='transformers'"
    ):
        write_open_clip(read_clip(tmp_path / "given", "found"), tmp_path)


def change(folder: Path, tower: str, **values: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    (config[tower] if tower else config).update(values)
    file.write_text(json.dumps(config))


def larger_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"word{number}" for number in range(90)])
    tokenizer.save(str(folder / "tokenizer.json"))


def no_padding(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def part(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in state.items() if "q_proj" not in name}, folder / "model.safetensors")


def adapter(folder: Path) -> None:
    save_file(load_file(folder / "model.safetensors") | {"lora": torch.zeros(1)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "must hold its weights as model.safetensors. Got no"),
        (larger_tokenizer, "must make at most 90 different tokens, as the text tower has. Got "),
        (no_padding, "must name the token that pads, which the tower reads"),
        (part, "must fit its config. Missing: "),
        (adapter, "must have the names of transformers' SiglipModel. Got 'lora'"),
        (lambda folder: change(folder, "", model_type="siglip2"), "images of one size. Got 'siglip2'.*naflex"),
        (lambda folder: change(folder, "vision_config", hidden_size=65), "must be one of SigLIP's, of timm|projection"),
        (lambda folder: change(folder, "vision_config", num_hidden_layers=3), "must be one of SigLIP's, of timm"),
        (lambda folder: change(folder, "vision_config", image_size=48), "must be one of SigLIP's, of timm"),
        (lambda folder: change(folder, "text_config", hidden_act="relu"), "hidden_act must be one of gelu"),
        (lambda folder: change(folder, "text_config", layer_norm_eps=1e-5), "layer_norm_eps must be 1e-06"),
        (lambda folder: change(folder, "text_config", vocab_size=10**7), "a number of 24 bits"),
        (lambda folder: change(folder, "text_config", num_hidden_layers=900), "must fit its config"),
    ],
)  # fmt: skip
def test_a_folder_that_does_not_fit_is_refused(spoil: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises((InvalidInput, KeysMismatchError), match=message):
        read_clip(tmp_path, "found")


def test_what_is_no_siglip_is_refused(tmp_path: Path) -> None:
    model = siglip()
    model.preprocess_config.resize_mode = "shortest"
    with pytest.raises(InvalidInput, match="images resized by 'shortest'. Take to='open_clip'"):
        write_siglip_model(model, tmp_path)
    model = siglip()
    model.network.text.pool_type = "first"
    with pytest.raises(InvalidInput, match="Got TextTransformer with VisionTransformer"):
        write_siglip_model(model, tmp_path)
    model = siglip()
    model.network.visual.trunk.blocks[0].ls1 = torch.nn.Linear(64, 64)
    with pytest.raises(InvalidInput, match="Got weights named visual.trunk.blocks.0.ls1.weight"):
        write_siglip_model(model, tmp_path)
    model = siglip()
    model.network.visual.trunk.norm.eps = 0.1  # one that no config tells
    with pytest.raises(InvalidInput, match="a clip-vision tower whose embeddings differ by"):
        write_siglip_model(model, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".safetensors"]


@pytest.mark.slow
def test_the_whole_siglip_goes_to_transformers_and_back(tmp_path: Path, image: Image.Image) -> None:
    """ViT-B-16-SigLIP of open_clip, 200 million random weights."""
    from transformers import AutoTokenizer

    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    assert config is not None
    given = {name: value for name, value in config.items() if name != "custom_text"}
    torch.manual_seed(0)
    network = open_clip.CustomTextCLIP(**given).eval()
    half = (0.5, 0.5, 0.5)
    network.visual.preprocess_cfg = {  # type: ignore[assignment]
        "size": 224, "interpolation": "bicubic", "resize_mode": "squash", "mean": half, "std": half,
    }  # fmt: skip
    content = padded_tokenizer(64).to_str()
    model = Clip(network, FileTokenizer(content, config["text_cfg"]), config, "siglip", {"tokenizer.json": content})
    (tmp_path / "out").mkdir()
    write_siglip_model(model, tmp_path / "out")
    own = SiglipModel.from_pretrained(tmp_path / "out").eval()
    same(tmp_path / "out", model, AutoTokenizer.from_pretrained(tmp_path / "out"), own, image)
    again = read_clip(tmp_path / "out", "again")
    np.testing.assert_allclose(again.encode_images([image]), model.encode_images([image]), atol=1e-6)
    assert again.config["vision_cfg"]["timm_model_name"] == "vit_base_patch16_siglip_224"
