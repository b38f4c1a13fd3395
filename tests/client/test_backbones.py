"""The table of backbones, and names that are not in it."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch

from finetuner.backbones import IMAGE_TASK, ROWS, Backbone, architectures, find_backbone, list_models
from finetuner.exceptions import NoSuchModel


def test_names_and_aliases_mean_one_row_each() -> None:
    names = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    assert all(find_backbone(name) is row for row in ROWS for name in (row.name, *row.aliases))
    assert list_models() == [row.name for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_complete_and_its_weights_are_known_to_open_clip(row: Backbone) -> None:
    assert row.licence
    assert row.description
    assert row.output_dim > 0
    assert 0 < row.learning_rate < 1
    if row.task == IMAGE_TASK:
        assert timm.models.is_model_pretrained(f"{row.architecture}.{row.pretrained}")
        with torch.device("meta"):  # no memory, no time
            assert timm.create_model(row.architecture, num_classes=0).num_features == row.output_dim
    elif row.folder is None:
        assert open_clip.get_pretrained_cfg(row.architecture, row.pretrained)
        assert open_clip.get_model_config(row.architecture)["embed_dim"] == row.output_dim
    else:
        assert (row.folder / "open_clip_config.json").is_file()


def test_architectures_are_open_clips_own() -> None:
    assert set(architectures()) == set(open_clip.list_models())


@pytest.mark.parametrize("name", ["ViT-B-32::openai", "ViT-B-32#openai"])
def test_a_tag_makes_a_row(name: str) -> None:
    assert find_backbone(name) == Backbone("ViT-B-32::openai", "ViT-B-32", "openai")


def test_a_checkpoint_path_may_hold_separators() -> None:
    assert find_backbone("ViT-B-32::/a/b#c::d.pt").pretrained == "/a/b#c::d.pt"
    assert Path(find_backbone("RN50::C:/x.safetensors").pretrained).suffix == ".safetensors"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip-mimi", r"model must be one of clip-mini, .*Got 'clip-mimi'. Nearest: clip-mini"),
        ("openai/clip-vit-base-patch23", r"Nearest: openai/clip-vit-base-patch32"),
        ("ViT-B-23::openai", r"architecture must be one that open_clip lists. Got 'ViT-B-23'. Nearest: ViT-B-32"),
        ("ViT-B-32::", "Got 'ViT-B-32::'"),
        ("", "Got ''.*finetuner.list_models"),
        ("§§§§", "Nearest: none"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, expected: str) -> None:
    with pytest.raises(NoSuchModel, match=expected) as caught:
        find_backbone(name)
    assert "\n" not in str(caught.value)
