"""A CLIP that another library saved becomes ours: the inverse of an export. A folder that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from finetuner.exceptions import InvalidInput, KeysMismatchError
from finetuner.exports.clip_model import write_clip_model
from finetuner.exports.open_clip_folder import write_open_clip
from finetuner.imports.artifact import import_model
from finetuner.imports.clip_model import read_clip
from finetuner.imports.clip_names import from_transformers
from finetuner.models.clip import Clip
from finetuner.models.text.clip_tokenizer import ClipTokenizer
from tests.client.exports.test_export import TEXTS, clip_mini, quiet_transformers, vit, with_tokenizer_of_a_file

__all__ = ["quiet_transformers"]  # a fixture
pytestmark = pytest.mark.seconds
Write = Callable[[Clip, Path], None]
BOTH = pytest.mark.parametrize("write", [write_clip_model, write_open_clip], ids=["transformers", "open_clip"])


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return [Image.fromarray(pixels), Image.fromarray(pixels).resize((40, 70))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a small CLIPModel."""
    (tmp_path / "model").mkdir()
    write_clip_model(vit(), tmp_path / "model")
    return tmp_path / "model"


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(file.read_text())
    edit(values)
    file.write_text(json.dumps(values))


def same(found: Clip, model: Clip, images: list[Image.Image]) -> None:
    texts = [*TEXTS, "jeans &amp; shirt"]
    np.testing.assert_allclose(found.encode_texts(texts), model.encode_texts(texts), atol=1e-5)
    np.testing.assert_allclose(found.encode_images(images), model.encode_images(images), atol=1e-5)


@BOTH
@pytest.mark.parametrize("make", [vit, lambda: vit("quick_gelu"), clip_mini], ids=["gelu", "quick-gelu", "clip-mini"])
def test_an_export_comes_back_as_it_was(
    make: Callable[[], Clip], write: Write, tmp_path: Path, images: list[Image.Image]
) -> None:
    model = make()
    write(model, tmp_path)
    found = read_clip(tmp_path, "found")
    ours, theirs = model.network.state_dict(), found.network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    same(found, model, images)
    assert isinstance(found.tokenizer, ClipTokenizer) == isinstance(model.tokenizer, ClipTokenizer)


def test_a_tokenizer_file_of_open_clip_comes_back(tmp_path: Path, images: list[Image.Image]) -> None:
    model = with_tokenizer_of_a_file()
    write_open_clip(model, tmp_path)
    same(read_clip(tmp_path, "found"), model, images)


def test_transformers_own_model_gives_its_vectors(tmp_path: Path, images: list[Image.Image]) -> None:
    """Widths that are no multiple of four, in fp16, two files of weights, and no image processor."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    write_clip_model(vit(), tmp_path)  # the tokenizer
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "preprocessor_config.json").unlink()
    text = {"hidden_size": 48, "intermediate_size": 101, "num_hidden_layers": 3, "num_attention_heads": 4}
    vision = {"hidden_size": 40, "intermediate_size": 77, "num_hidden_layers": 2, "num_attention_heads": 5}
    own = CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "image_size": 32}, projection_dim=24)).eval()
    own.half().save_pretrained(tmp_path, max_shard_size="2MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    found, own = read_clip(tmp_path, "found"), own.float()
    tokens = found.tokenizer(TEXTS)
    pixels = torch.stack([found.preprocess(image) for image in images])
    assert pixels.shape == (2, 3, 32, 32)
    with torch.inference_mode():
        output = own(input_ids=tokens, pixel_values=pixels)
    np.testing.assert_allclose(found.encode_texts(TEXTS), output.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.encode_images(images), output.image_embeds.numpy(), atol=1e-5)


def test_position_ids_of_older_files_are_left_out(folder: Path, images: list[Image.Image]) -> None:
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, folder / "model.safetensors")
    same(read_clip(folder, "found"), vit(), images)


def test_the_artifact_of_a_model_has_one_id(folder: Path, tmp_path: Path, images: list[Image.Image]) -> None:
    from finetuner.artifacts.load import load_artifact
    from finetuner.artifacts.sizes import check_sizes

    made = [import_model(folder, tmp_path / name) for name in "ab"]
    assert isinstance(made[0], Path)
    assert isinstance(made[1], Path)
    assert made[0].name == made[1].name
    check_sizes(made[0])
    model = load_artifact(made[0])
    assert isinstance(model, Clip)
    same(model, vit(), images)
    assert import_model(folder, tmp_path / "c", "other", lambda _: True) == made[0].name
    assert not (tmp_path / "c").exists()
    with pytest.raises(InvalidInput, match="name of the artifact must be"):
        import_model(folder, tmp_path / "c", "a/b")


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def tokenizer_of_another_model(folder: Path) -> None:
    """A tower of fewer rows than the tokenizer has tokens."""
    state = load_file(folder / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    save_file(state | {name: state[name][:1000].contiguous()}, folder / "model.safetensors")
    change(folder / "config.json", lambda config: config["text_config"].update(vocab_size=1000, eos_token_id=999))


def tokenizer_without_end(folder: Path) -> None:
    change(folder / "tokenizer.json", lambda values: values.update(post_processor=None))


def another_end(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(eos_token_id=5))


def huge(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(hidden_size=60_000, intermediate_size=9))


def deep(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["vision_config"].update(num_hidden_layers=1000))


def wider(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(hidden_size=32))


def fewer_layers(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(num_hidden_layers=1))


def number_beyond(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(hidden_size=10**12))


def siglip(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(model_type="siglip"))


def activation(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["text_config"].update(hidden_act="relu"))


def epsilon(folder: Path) -> None:
    change(folder / "config.json", lambda config: config["vision_config"].update(layer_norm_eps=1e-6))


def no_object(folder: Path) -> None:
    change(folder / "config.json", lambda config: config.update(text_config=[1]))


def images_of_another_size(folder: Path) -> None:
    change(folder / "preprocessor_config.json", lambda values: values.update(crop_size={"height": 32, "width": 32}))


def infinite_mean(folder: Path) -> None:
    change(folder / "preprocessor_config.json", lambda values: values.update(image_mean=[1.0, float("nan"), 0.0]))


def adapter(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(state | {"text_model.lora": torch.zeros(1)}, folder / "model.safetensors")


def part(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["vision_model.encoder.layers.0.self_attn.k_proj.bias"]
    save_file(state, folder / "model.safetensors")


def no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04K\x01.")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_weights, "must hold its weights as model.safetensors. Got no weights. Write them once"),
        (pickle_alone, "Got pytorch_model.bin, which may hold a program and is not opened"),
        (no_tokenizer, "must hold tokenizer.json. Got none. Write it: transformers.AutoTokenizer"),
        (damaged_tokenizer, "tokenizer.json must be a tokenizer. Got: "),
        (tokenizer_of_another_model, "must make at most 1000 different tokens, as the text tower has. Got 49408"),
        (tokenizer_without_end, "must end each text with its highest token, 49407.* Got"),
        (another_end, "must end each text with the config's eos_token_id, 5. Got 49407"),
        (huge, "must fit its config. Got a config of more numbers than the .* tensors of the weights hold"),
        (deep, "must fit its config. Got a config of more .* than the .* tensors of the weights hold"),
        (wider, "must fit its config.*Of another shape: "),
        (fewer_layers, "must fit its config. Unexpected: transformer.resblocks.1"),
        (number_beyond, "must be a model's config. Got: a number of 40 bits, of 21 allowed"),
        (siglip, "config.json must describe a SiglipModel. layer_norm_eps must be 1e-06. Got 1e-05"),
        (activation, "must describe a CLIPModel. hidden_act must be one of gelu, quick_gelu, the same"),
        (epsilon, "layer_norm_eps must be 1e-05, as in open_clip. Got 1e-06"),
        (no_object, "config.json must describe a CLIPModel"),
        (images_of_another_size, "must resize the shorter side to 64 pixels and crop"),
        (infinite_mean, "normalise three colours. Got other steps"),
        (adapter, "must have the names of transformers' CLIPModel. Got 'text_model.lora'"),
        (part, "Missing: visual.transformer.resblocks.0.attn.in_proj_bias"),
        (no_safetensors, "must be safetensors. Got: "),
        (empty, "must hold config.json of transformers' CLIPModel, or open_clip_config.json. Got no files"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(spoil: Callable[[Path], None], message: str, folder: Path) -> None:
    spoil(folder)
    with pytest.raises((InvalidInput, KeysMismatchError), match=message):
        read_clip(folder, "found")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"model must be a folder. Got '.*none', which is none. Check the path"):
        read_clip(tmp_path / "none", "found")


def test_weights_of_open_clip_are_compared_too(tmp_path: Path) -> None:
    write_open_clip(vit(), tmp_path)
    change(tmp_path / "open_clip_config.json", lambda values: values["model_cfg"]["vision_cfg"].update(layers=900))
    with pytest.raises(KeysMismatchError, match="Got a config of more .* than"):
        read_clip(tmp_path, "found")
    (tmp_path / "open_clip_model.safetensors").rename(tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(InvalidInput, match="Got open_clip_pytorch_model.bin, which may hold a program"):
        read_clip(tmp_path, "found")


@pytest.mark.slow
def test_a_tokenizer_with_other_words_is_taken_from_its_file(folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    content["normalizer"] = None  # the case of letters counts
    (folder / "tokenizer.json").write_text(json.dumps(content))
    found = read_clip(folder, "found")
    assert not isinstance(found.tokenizer, ClipTokenizer)
    assert list(found.files) == ["tokenizer.json"]
    assert import_model(folder, tmp_path / "workspace")
    (tmp_path / "again").mkdir()
    write_clip_model(found, tmp_path / "again")
    again = read_clip(tmp_path / "again", "again")
    np.testing.assert_allclose(again.encode_texts(TEXTS), found.encode_texts(TEXTS), atol=1e-5)


def test_names_are_those_of_a_plain_table(folder: Path) -> None:
    """Each matrix of queries, keys and values is a third of the one that open_clip has, in this order."""
    state = load_file(folder / "model.safetensors")
    found = from_transformers(state)["visual.transformer.resblocks.1.attn.in_proj_weight"]
    for number, letter in enumerate("qkv"):
        own = state[f"vision_model.encoder.layers.1.self_attn.{letter}_proj.weight"]
        assert torch.equal(found[64 * number : 64 * (number + 1)], own)
