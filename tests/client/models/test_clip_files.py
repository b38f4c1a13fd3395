"""Artifacts of CLIPs whose files promise other sizes than their weights hold: refused before anything is allocated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from finetuner.exceptions import CorruptedArtifact, FinetunerError, KeysMismatchError
from finetuner.models import clip_files
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TOWERS, Clip
from finetuner.models.clip_files import CONFIG_FILE, check_towers, load_backbone, load_towers, save_towers

HUGE = "ViT-bigG-14"


@pytest.fixture(scope="module")
def saved(mini: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "models"
    save_towers(mini, folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "models"))


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network must be compared before it is built")

    monkeypatch.setattr(clip_files, "load_folder", refuse)


def change(folder: Path, tower: str, **values: Any) -> None:
    content = json.loads((folder / CONFIG_FILE).read_text())
    part = content if tower == "all" else content["model_cfg"]
    (part if tower in ("all", "model_cfg") else part[tower]).update(values)
    (folder / CONFIG_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("tower", "values", "message"),
    [
        ("vision_cfg", {"width": 8192}, "weights in .* must fit its config. Got a config of more numbers than"),
        ("text_cfg", {"width": 8192}, "weights in .* must fit its config. Got a config of more numbers than"),
        ("vision_cfg", {"layers": 1_000_000}, "Got a config of more (tensors|modules|numbers) than"),
        ("text_cfg", {"layers": 1_000_000}, "Got a config of more (tensors|modules|numbers) than"),
        ("text_cfg", {"layers": 1}, "Unexpected: transformer.resblocks.1"),
        ("text_cfg", {"vocab_size": 2**20}, "Got a config of more numbers than"),
        ("text_cfg", {"vocab_size": 2**40}, "must be a model's config. Got: a number of 41 bits, of 21 allowed"),
        ("text_cfg", {"vocab_size": 3000}, r"Of another shape: token_embedding.weight \(\d+, \d+\) for \(3000, "),
        ("text_cfg", {"context_length": 100_000}, r"context_length must be a whole number in \[2, 1024\]. Got 100000"),
        ("text_cfg", {"context_length": 1000}, "Of another shape: positional_embedding"),
        ("vision_cfg", {"image_size": 100_000}, r"image_size must be a whole number in \[1, 1024\]. Got 100000"),
        ("vision_cfg", {"image_size": [8, 100_000]}, r"image_size must be a whole number in \[1, 1024\]. Got 100000"),
        ("vision_cfg", {"image_size": 1000, "patch_size": 1}, r"number of patches must be .* 4096\]. Got 1000000"),
        ("vision_cfg", {"mlp_ratio": 1e6}, "Got a config of more numbers than"),
        ("vision_cfg", {"timm_model_name": "vit_giant_patch14_224"}, "Got a config of more (tensors|numbers) than"),
        ("vision_cfg", {"timm_model_name": "no_such_network"}, "Got a config that cannot be built"),
        ("vision_cfg", {"timm_model_name": "hf-hub:x/y"}, "must name an architecture. Got a path"),
        ("vision_cfg", {"unknown": 1}, r"Got a config that cannot be built \(TypeError"),
        ("vision_cfg", {"patch_size": 0}, r"patch_size must be a whole number in \[1, 1024\]. Got 0"),
        ("vision_cfg", {"head_width": 0}, "Got a config that cannot be built"),
        ("model_cfg", {"embed_dim": 10**6}, "embed_dim must be a whole number in .* Got 1000000"),
        ("model_cfg", {"embed_dim": 8}, "Of another shape: "),
        ("model_cfg", {"text_cfg": None}, "must describe a CLIP. Got: "),
        ("all", {"model_cfg": []}, "must describe a CLIP. Got: "),
        ("all", {"preprocess_cfg": {"size": [20_000, 20_000]}}, r"size must be a whole number in .* Got 20000"),
    ],
    ids=str,
)
def test_a_config_that_promises_other_sizes_is_refused(
    tower: str, values: dict[str, Any], message: str, folder: Path
) -> None:
    change(folder, tower, **values)
    for load in (check_towers, lambda folder: load_towers(folder, "x", towers=TOWERS[:1])):
        with pytest.raises((KeysMismatchError, CorruptedArtifact), match=message) as caught:
            load(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b" " * 2**21])
def test_a_file_that_is_no_config_is_refused(content: bytes, folder: Path) -> None:
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(CorruptedArtifact, match=f"{CONFIG_FILE} must be a model's config. Got: "):
        check_towers(folder)


def test_empty_weights_and_a_missing_tower_are_refused(folder: Path) -> None:
    for tower in TOWERS:
        save_file({}, folder / tower / "weights.safetensors")
    with pytest.raises(KeysMismatchError, match="Got a config of more tensors than the 0 tensors of the weights"):
        check_towers(folder)
    (folder / TOWERS[0] / "weights.safetensors").unlink()
    with pytest.raises(CorruptedArtifact, match=r"weights.safetensors must be safetensors. Got: "):
        load_towers(folder, "x", towers=TOWERS[1:])


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}', "[" * 100_000])
def test_a_tokenizer_that_is_none_is_refused(content: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CorruptedArtifact, match=r"tokenizer.json must be a tokenizer. Got: "):
        check_towers(folder)


def test_a_tokenizer_of_more_tokens_than_the_tower_is_refused(
    folder: Path, mini: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = mini.network.token_embedding.num_embeddings
    assert check_towers(folder) == mini.dim
    Tokenizer(models.BPE({str(number): number for number in range(rows)}, [])).save(str(folder / "tokenizer.json"))
    with pytest.raises(CorruptedArtifact, match=f"must make at most {rows} different tokens.* Got {rows + 3}"):
        check_towers(folder)
    monkeypatch.setattr("finetuner.models.text.text_towers.MAX_TOKENIZER_BYTES", 1000)
    with pytest.raises(CorruptedArtifact, match=r"tokenizer.json must have at most 1000 bytes. Got"):
        check_towers(folder)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_small_file_under_the_name_of_a_large_architecture_is_refused(suffix: str, tmp_path: Path) -> None:
    path, weights = tmp_path / f"x{suffix}", {"w": torch.zeros(1)}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    with pytest.raises(FinetunerError, match=f"must hold weights of {HUGE}. Got a config of more numbers than the 1"):
        load_backbone(find_backbone(f"{HUGE}::{path}"))
