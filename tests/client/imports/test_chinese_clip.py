"""A ChineseCLIPModel becomes ours with its vectors, and goes back. One that does not fit is refused."""

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
from transformers import BertTokenizer, ChineseCLIPImageProcessorPil, ChineseCLIPModel

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.sizes import check_sizes
from finetuner.exceptions import InvalidInput, KeysMismatchError
from finetuner.exports.export import export_folder
from finetuner.imports.artifact import import_model
from finetuner.imports.clip_model import read_clip
from finetuner.models.clip import Clip
from tests.client.exports.test_export import export, image, published, quiet_transformers
from tests.client.imports.made_chinese_clip import TEXTS, write_chinese_clip

__all__ = ["export", "image", "published", "quiet_transformers"]  # fixtures
pytestmark = pytest.mark.seconds


def vectors(own: Any, tokenizer: Any, folder: Path, image: Image.Image, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return transformers' own vectors of TEXTS and of an image."""
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=length, return_tensors="pt")
    pixels = ChineseCLIPImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")
    with torch.inference_mode():
        output = own(**tokens, **pixels)
    return output.text_embeds.numpy(), output.image_embeds.numpy()


@pytest.mark.parametrize(
    ("vocabulary", "length", "activation"), [(True, 52, "quick_gelu"), (False, 20, "gelu")], ids=["vocab", "json"]
)
def test_vectors_are_transformers_own_and_the_model_goes_back(
    vocabulary: bool, length: int, activation: str, tmp_path: Path, image: Image.Image
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    own = write_chinese_clip(given, vocabulary=vocabulary, hidden_act=activation)
    made = import_model(given, tmp_path / "workspace")
    assert isinstance(made, Path)
    check_sizes(made)
    model = load_artifact(made)
    assert isinstance(model, Clip)
    texts, images = vectors(own, BertTokenizer.from_pretrained(given), given, image, length)
    np.testing.assert_allclose(model.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(model.encode_images([image]), images, atol=1e-5)
    assert model.tokenizer(TEXTS).shape == (len(TEXTS), length)
    commas = model.encode_texts(TEXTS[1:3])
    assert np.abs(commas[0] - commas[1]).max() > 1e-3, "a sign of full width is a token of its own"
    out = export_folder(made, "transformers", tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (given, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    again = read_clip(out, "again")
    np.testing.assert_allclose(again.encode_texts(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(again.encode_images([image]), images, atol=1e-5)


@pytest.mark.parametrize("to", ["transformers", pytest.param("sentence-transformers", marks=pytest.mark.slow)])
def test_other_libraries_load_it_by_the_lines_of_its_card(to: str, tmp_path: Path, export: Any) -> None:
    (tmp_path / "given").mkdir()
    write_chinese_clip(tmp_path / "given")
    model = read_clip(tmp_path / "given", "chinese")
    folder, found, saved = export(model, to)
    line = "红色连衣裙" if to == "transformers" else "a red dress"
    np.testing.assert_allclose(found["texts"], model.encode_texts([line]), atol=1e-5)
    np.testing.assert_allclose(found["images"], model.encode_images([saved]), atol=1e-5)
    if to == "transformers":
        assert isinstance(found["model"], ChineseCLIPModel)
        texts, _ = vectors(found["model"], found["tokenizer"], folder, saved, 52)
        np.testing.assert_allclose(texts, model.encode_texts(TEXTS), atol=1e-5)


def test_open_clip_is_refused(tmp_path: Path) -> None:
    write_chinese_clip(tmp_path)
    made = import_model(tmp_path, tmp_path / "workspace")
    with pytest.raises(InvalidInput, match="to='open_clip' cannot hold .* by its name on the hub. Take to='sentence-"):
        export_folder(Path(made), "open_clip", tmp_path / "out")


def change(folder: Path, tower: str, **values: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    (config[tower] if tower else config).update(values)
    file.write_text(json.dumps(config))


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def words(folder: Path, edit: Callable[[list[str]], list[str]]) -> None:
    file = folder / "vocab.txt"
    file.write_text("\n".join(edit(file.read_text(encoding="utf-8").split("\n"))), encoding="utf-8")


def weights(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")


def no_first_token(folder: Path) -> None:
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"post_processor": None}))


def not_utf8(folder: Path) -> None:
    (folder / "vocab.txt").write_bytes(b"\xff\xfe[PAD]")


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda folder: without(folder, "model.safetensors"), "must hold its weights as .* Got no weights"),
    "no tokenizer": (lambda folder: without(folder, "vocab.txt"), "must hold tokenizer.json. Got none. Write it"),
    "more words": (
        lambda folder: words(folder, lambda own: [*own, *(f"word{number}" for number in range(30))]),
        "vocab.txt must make at most 30 different tokens, as the text tower has. Got 5[0-9]. Take the tokenizer of",
    ),
    "another padding": (
        lambda folder: words(folder, lambda own: ["a", *own[1:5], "[PAD]", *own[6:]]),
        "must pad with the config's pad_token_id, 0, which the tower masks. Got 5. Take the tokenizer of this model",
    ),
    "no first token": (no_first_token, "must begin each text with one token, such as .CLS.: there the tower reads it"),
    "not utf-8": (not_utf8, "vocab.txt must be a tokenizer. Got: .*utf-8"),
    "another architecture": (
        lambda folder: change(folder, "", model_type="jina_clip", auto_map={"AutoModel": "modeling.Model"}),
        "Got 'jina_clip'. Its architecture is a program beside its weights, which is not run. Import a CLIPModel",
    ),
    "no projection": (
        lambda folder: weights(folder, lambda state: state.pop("text_projection.weight")),
        "must fit its config. Missing: text.proj.weight",
    ),
    "an adapter": (
        lambda folder: weights(folder, lambda state: state.update(lora=torch.zeros(1))),
        "must have the names of transformers' ChineseCLIPModel. Got 'lora'",
    ),
    "fewer layers": (
        lambda folder: change(folder, "text_config", num_hidden_layers=1),
        "must fit its config. Unexpected: text.transformer.encoder.layer.1",
    ),
    "deep": (lambda folder: change(folder, "text_config", num_hidden_layers=900), "must fit its config. Got a config"),
    "beyond": (lambda folder: change(folder, "text_config", vocab_size=10**8), "config. Got: a number of"),
    "activation": (lambda folder: change(folder, "text_config", hidden_act="os.system"), "hidden_act must be one of"),
    "epsilon": (lambda folder: change(folder, "vision_config", layer_norm_eps=1e-6), "layer_norm_eps must be 1e-05"),
    "positions": (
        lambda folder: change(folder, "text_config", position_embedding_type="relative_key"),
        "must describe a ChineseCLIPModel. positions must be absolute",
    ),
    "padding": (lambda folder: change(folder, "text_config", pad_token_id=30), "pad_token_id must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_folder_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    write_chinese_clip(tmp_path)
    spoil, message = SPOILED[name]
    spoil(tmp_path)
    with pytest.raises((InvalidInput, KeysMismatchError), match=message):
        read_clip(tmp_path, "found")


def test_weights_that_the_model_does_not_read_are_left_out(tmp_path: Path) -> None:
    """In files of older versions."""
    write_chinese_clip(tmp_path)
    expected = read_clip(tmp_path, "found").encode_texts(TEXTS)
    weights(
        tmp_path,
        lambda state: state.update(
            {
                "text_model.embeddings.position_ids": torch.arange(64)[None],
                "vision_model.embeddings.position_ids": torch.arange(17)[None],
                "text_model.pooler.dense.weight": torch.zeros(32, 32),
            }
        ),
    )
    np.testing.assert_array_equal(read_clip(tmp_path, "found").encode_texts(TEXTS), expected)
