"""CLIPs encode as open_clip does; weights that do not fit are refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from finetuner.exceptions import FinetunerError, InvalidInput, KeysMismatchError, NoSuchModel
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip
from finetuner.models.clip_files import check_weights, load_backbone, load_towers, save_towers
from finetuner.models.text.byte_pair_tokenizer import BytePairTokenizer

SMALL = "ViT-S-32-alt"  # the smallest architecture that open_clip lists
TEXTS = [
    "",
    "a red dress",
    "ein langes blaues Kleid mit weißen Punkten",
    "😀",
    "striped " * 200,  # longer than any context
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = open_clip.create_model(SMALL)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def images(jpeg: Callable[[int], bytes]) -> list[Image.Image]:
    sizes = [(80, 80), (31, 200), (333, 90)]
    return [Image.open(io.BytesIO(jpeg(number))).convert("RGB").resize(size) for number, size in enumerate(sizes)]


def assert_equals_open_clip(
    ours: Clip, network: torch.nn.Module, tokenizer: Callable[[list[str]], torch.Tensor], images: list[Image.Image]
) -> None:
    network.eval()
    preprocess = image_transform_v2(PreprocessCfg(**network.visual.preprocess_cfg), is_train=False)
    with torch.inference_mode():
        texts = network.encode_text(tokenizer(TEXTS), normalize=True).numpy()
        vision = network.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True).numpy()
    # Other batch sizes than open_clip's. A batch of short texts is cut.
    for batch_size in (1, 2, 32):
        assert np.abs(ours.encode_texts(TEXTS, batch_size) - texts).max() < 1e-5
        assert np.abs(ours.encode_images(images, batch_size) - vision).max() < 1e-5
    assert ours.encode_texts(TEXTS).dtype == np.float32
    assert texts.shape == (len(TEXTS), ours.dim)


def test_clip_mini_equals_open_clip(mini: Clip, mini_row: Backbone, images: list[Image.Image]) -> None:
    assert mini_row.folder is not None
    network = open_clip.create_model(f"local-dir:{mini_row.folder}")
    tokenizer = BytePairTokenizer(mini_row.folder / "tokenizer.json", network.context_length)
    assert_equals_open_clip(mini, network, tokenizer, images)


@pytest.mark.seconds
def test_a_checkpoint_file_equals_open_clip(checkpoint: Path, images: list[Image.Image]) -> None:
    ours = load_backbone(find_backbone(f"{SMALL}::{checkpoint}"))
    network = open_clip.create_model(SMALL, pretrained=str(checkpoint))
    assert_equals_open_clip(ours, network, open_clip.get_tokenizer(SMALL), images)


def test_empty_input_is_an_empty_array(mini: Clip) -> None:
    assert mini.encode_texts([]).shape == mini.encode_images([]).shape == (0, mini.dim)


def test_towers_round_trip_to_the_bit(mini: Clip, tmp_path: Path, images: list[Image.Image]) -> None:
    save_towers(mini, tmp_path / "models")
    again = load_towers(tmp_path / "models", "again")
    before, after = mini.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert again.preprocess_config == mini.preprocess_config
    assert np.array_equal(again.encode_texts(TEXTS), mini.encode_texts(TEXTS))
    assert np.array_equal(again.encode_images(images), mini.encode_images(images))


def test_one_tower_encodes_the_same_and_refuses_the_other(
    mini: Clip, tmp_path: Path, images: list[Image.Image]
) -> None:
    save_towers(mini, tmp_path / "models")
    text, vision = (load_towers(tmp_path / "models", "one", towers=(tower,)) for tower in TOWERS)
    assert np.array_equal(text.encode_texts(TEXTS), mini.encode_texts(TEXTS))
    assert np.array_equal(vision.encode_images(images), mini.encode_images(images))
    with pytest.raises(InvalidInput, match=f"holds {TEXT} only. Got input for {VISION}"):
        text.encode_images(images)
    with pytest.raises(InvalidInput, match=f"holds {VISION} only. Got input for {TEXT}"):
        vision.encode_texts(TEXTS)
    parameters = [sum(p.numel() for p in model.network.parameters()) for model in (text, vision, mini)]
    assert max(parameters[:2]) < parameters[2]


def test_an_unknown_tower_is_refused(mini: Clip, tmp_path: Path) -> None:
    save_towers(mini, tmp_path / "models")
    with pytest.raises(InvalidInput, match="must be one of clip-text, clip-vision. Got clip-audio"):
        load_towers(tmp_path / "models", "x", towers=("clip-audio",))


def test_weights_with_a_missing_key_do_not_load(mini: Clip, tmp_path: Path) -> None:
    save_towers(mini, tmp_path / "models")
    weights = {key: value for key, value in mini.network.state_dict().items() if key.startswith("visual.")}
    weights.pop("visual.proj")
    save_file(
        {key: value.contiguous() for key, value in weights.items()},
        tmp_path / "models" / VISION / "weights.safetensors",
    )
    with pytest.raises(KeysMismatchError, match=r"visual\.proj"):
        load_towers(tmp_path / "models", "x")


def test_weights_of_another_shape_do_not_load(mini: Clip, tmp_path: Path) -> None:
    save_towers(mini, tmp_path / "models")
    config = tmp_path / "models" / "open_clip_config.json"
    config.write_text(config.read_text().replace('"embed_dim": 128', '"embed_dim": 64'))
    with pytest.raises(KeysMismatchError):
        load_towers(tmp_path / "models", "x")


def test_a_checkpoint_of_another_architecture_is_refused_in_one_line(mini: Clip, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({key: value.contiguous() for key, value in mini.network.state_dict().items()}, path)
    with pytest.raises(KeysMismatchError, match=f"must hold weights of {SMALL}") as caught:
        load_backbone(find_backbone(f"{SMALL}::{path}"))
    assert "\n" not in str(caught.value)


class Code:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_code_in_a_pickled_checkpoint_does_not_run(tmp_path: Path, suffix: str) -> None:
    torch.save({"state_dict": Code(tmp_path / "it-ran")}, tmp_path / f"evil{suffix}")
    with pytest.raises(FinetunerError, match="must hold only weights") as caught:
        load_backbone(find_backbone(f"{SMALL}::{tmp_path / f'evil{suffix}'}"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "missing", "folder", "suffix"])
def test_a_server_reads_checkpoints_from_its_folder_only(tmp_path: Path, kind: str) -> None:
    folder, outside = tmp_path / "weights", tmp_path / "x.pt"
    (folder / "folder.pt").mkdir(parents=True)
    outside.touch()
    (folder / "link.pt").symlink_to(outside)
    (folder / "notes.txt").touch()
    names = {
        "parent": "../x.pt",
        "absolute": str(outside),
        "link": "link.pt",
        "missing": "missing.pt",
        "folder": "folder.pt",
        "suffix": "notes.txt",
    }
    row = find_backbone(f"{SMALL}::{names[kind]}")
    for refused in (check_weights, lambda row, folder: load_backbone(row, weights_folder=folder)):
        with pytest.raises(NoSuchModel, match=r"must name a tag \(none\) or a checkpoint file in .*Got") as caught:
            refused(row, folder)
        assert repr(names[kind]) in str(caught.value)


@pytest.mark.seconds
def test_a_server_reads_a_checkpoint_inside_its_folder(checkpoint: Path) -> None:
    row = find_backbone(f"{SMALL}::{checkpoint.name}")
    check_weights(row, checkpoint.parent)
    assert load_backbone(row, weights_folder=checkpoint.parent).model_id == row.name


def test_the_error_for_unavailable_weights_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    # Port 9 of this machine never answers.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(NoSuchModel, match=r"hub's cache .*or downloadable.*or give a file: ViT-B-32::") as caught:
        load_backbone(find_backbone("ViT-B-32::openai"))
    assert "\n" not in str(caught.value)
    assert not constants.HF_HUB_OFFLINE
    assert capfd.readouterr().err == ""
