"""A CLIP from two towers gives the vectors of its parts, each through its projection."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.sizes import check_sizes
from finetuner.contract.environment import STAND_INS
from finetuner.exceptions import InvalidInput, KeysMismatchError, NoSuchModel
from finetuner.exports.export import export_folder
from finetuner.imports.artifact import import_model
from finetuner.imports.parts import DIM, read_parts
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.image_weights import load_image_backbone
from tests.client.exports.test_export import quiet_transformers
from tests.client.imports.made_bert import write_bert

__all__ = ["quiet_transformers"]  # a fixture
pytestmark = pytest.mark.seconds
VISION = "resnet-mini-random"
TEXTS = ["a red dress", "blue", "", "striped shirt " * 40]


@pytest.fixture(autouse=True)
def _small_image_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAND_INS, "none=none")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "bert").mkdir()
    write_bert(tmp_path / "bert")
    return tmp_path / "bert"


def unit(vectors: torch.Tensor) -> np.ndarray:
    array: np.ndarray = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    return array


def test_vectors_are_those_of_the_parts_through_the_projections(tmp_path: Path) -> None:
    bert = write_bert(tmp_path)
    model = read_parts(f"{VISION}+{tmp_path}", "parts")
    assert (model.dim, model.towers) == (DIM, ("clip-text", "clip-vision"))
    tokens = model.tokenizer(TEXTS)
    assert tokens.shape == (4, 40)  # as many as the text model has positions
    mask = (tokens != 0).long()
    image = load_image_backbone(find_backbone(VISION))
    pixels = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8))]
    with torch.inference_mode():
        last = bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        mean = (last * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        texts = unit(mean @ model.network.text.proj.weight.T)
        features = image.network(model.preprocess(pixels[0])[None])
        images = unit(features @ model.network.visual.head.proj.weight.T)
    np.testing.assert_allclose(model.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(model.encode_images(pixels), images, atol=1e-5)


def test_an_artifact_of_parts_loads(text: Path, tmp_path: Path) -> None:
    made = import_model(f"{VISION}+{text}", tmp_path / "a")
    assert isinstance(made, Path)
    assert (
        import_model(f"{VISION} + {text}", tmp_path / "b", "other", lambda artifact: artifact == made.name) == made.name
    )
    check_sizes(made)
    manifest, model = read_manifest(made), load_artifact(made)
    assert (manifest.backbone, manifest.output_dim) == ("clip-from-parts", DIM)
    assert isinstance(model, Clip)
    expected = read_parts(f"{VISION}+{text}", "parts").encode_texts(TEXTS)
    np.testing.assert_allclose(model.encode_texts(TEXTS), expected, atol=1e-6)


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))


def another_kind(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(model_type="gpt2"))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def deep(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(num_hidden_layers=900))


def wide(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(hidden_size=20_000, intermediate_size=20_000))


def part(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors")


def more_tokens(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] |= {f"word{number}": 200 + number for number in range(100)}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def another_padding(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(pad_token_id=1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (another_kind, "must hold a text model of transformers. .*must have a model_type of"),
        (no_config, "must hold a text model of transformers. .*config.json must be a model's config"),
        (no_tokenizer, "must hold a text model of transformers. tokenizer.json of"),
        (pickle_alone, "Got pytorch_model.bin, which may hold a program"),
        (deep, "must hold the weights of its config. Got a config of more .* than"),
        (wide, "must hold the weights of its config. Got a config of more .* than"),
        (part, "must hold the weights of its config. Missing: text.transformer.encoder.layer.1.output.dense.weight"),
        (more_tokens, "must make at most 200 different tokens, as the text model has. Got 300"),
        (another_padding, "must pad with the config's pad_token_id, 1, which the tower masks. Got 0"),
    ],
)
def test_a_text_model_that_does_not_fit_is_refused(spoil: Callable[[Path], None], message: str, text: Path) -> None:
    spoil(text)
    with pytest.raises((InvalidInput, KeysMismatchError), match=message):
        read_parts(f"{VISION}+{text}", "parts")


def test_parts_of_another_form_are_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="with an image model as VISION. Got 'clip-mini', a CLIP"):
        read_parts(f"clip-mini+{text}", "parts")
    with pytest.raises(InvalidInput, match="with a folder as TEXT. Got '.*none', which is none. Check the path"):
        read_parts(f"{VISION}+{tmp_path}/none", "parts")
    with pytest.raises(InvalidInput, match="model must be a path. Got ''"):
        read_parts(f"{VISION}+", "parts")
    with pytest.raises(NoSuchModel, match="Got 'nonsense'"):
        read_parts(f"nonsense+{text}", "parts")


def test_what_a_library_cannot_express_is_refused_with_those_that_can(text: Path, tmp_path: Path) -> None:
    made = import_model(f"{VISION}+{text}", tmp_path / "workspace")
    others = "Take to='sentence-transformers' or to='onnx'"
    for to, reason in (("open_clip", "by its name on the hub"), ("transformers", "VisionTextDualEncoderModel reads")):
        with pytest.raises(InvalidInput, match=f"to='{to}' cannot hold .*{reason}.* {others}"):
            export_folder(Path(made), to, tmp_path / "out")


@pytest.mark.slow
def test_parts_are_exported_as_onnx(text: Path, tmp_path: Path) -> None:
    made = import_model(f"{VISION}+{text}", tmp_path / "workspace")
    assert (export_folder(Path(made), "onnx", tmp_path / "out") / "clip-text/model.onnx").is_file()
