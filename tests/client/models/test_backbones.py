"""The backbone table, its options, and names outside it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import timm
import torch

from finetuner.exceptions import NoSuchModel
from finetuner.imports.hub import REPOSITORY
from finetuner.models.backbone import IMAGE_TASK, Backbone
from finetuner.models.backbones import (
    architectures,
    find_backbone,
    image_architectures,
    list_model_options,
    list_models,
    row_of,
)
from finetuner.models.image_model import MODEL_OPTIONS, ImageModelConfig, ImagePreprocess, pooling_of
from finetuner.models.rows import ELSEWHERE, ROWS


def test_names_and_aliases_mean_one_row_each() -> None:
    names = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    assert all(find_backbone(name) is row for row in ROWS for name in (row.name, *row.aliases))
    assert list_models() == [row.name for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_complete_and_its_weights_exist(row: Backbone) -> None:
    assert row.licence
    assert row.description
    assert row.output_dim > 0
    assert 0 < row.learning_rate < 1
    if row.task == IMAGE_TASK:
        assert timm.models.is_model_pretrained(f"{row.architecture}.{row.pretrained}")
        with torch.device("meta"):  # no memory, no time
            assert timm.create_model(row.architecture, num_classes=0).num_features == row.output_dim
    elif row.in_artifacts:
        assert REPOSITORY.fullmatch(row.source), "imports fetches it"
    elif row.folder is None:
        assert open_clip.get_pretrained_cfg(row.architecture, row.pretrained)
        assert open_clip.get_model_config(row.architecture)["embed_dim"] == row.output_dim
    else:
        assert (row.folder / "open_clip_config.json").is_file()


def test_model_options_are_those_that_models_accept() -> None:
    found = list_model_options()
    assert list(found) == list_models()
    for row in ROWS:
        assert found[row.name] == (list(MODEL_OPTIONS) if row.task == IMAGE_TASK else [])
    defaults = ImageModelConfig("resnet50", ImagePreprocess(224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    pooler, pooler_options = found["resnet-base"]
    assert (pooler["name"], pooler["default"]) == ("pooler", defaults.pooling)
    assert ast.literal_eval(pooler_options["default"]) == {"p": defaults.gem_p, "eps": defaults.gem_eps}
    assert all(option.keys() == {"name", "type", "default", "description"} for option in (pooler, pooler_options))
    assert pooling_of({"pooler": pooler["default"]})["pooling"] == defaults.pooling
    assert pooling_of({"pooler": "GeM", "pooler_options": ast.literal_eval(pooler_options["default"])}) == {
        "pooling": "GeM",
        "gem_p": defaults.gem_p,
        "gem_eps": defaults.gem_eps,
    }
    pooler["name"] = "changed"
    assert list_model_options()["resnet-base"][0]["name"] == "pooler", "each call returns a copy"


def test_architectures_are_the_libraries_own() -> None:
    assert set(architectures()) == set(open_clip.list_models())
    own = {name for name in timm.list_models() if timm.models.model_entrypoint(name).__module__.startswith("timm.")}
    assert image_architectures() == own  # other tests may add one


@pytest.mark.parametrize("name", ["ViT-B-32::openai", "ViT-B-32#openai"])
def test_a_tag_makes_a_row(name: str) -> None:
    assert find_backbone(name) == Backbone("ViT-B-32::openai", "ViT-B-32", "openai")


@pytest.mark.parametrize("name", ["clip-base-multi", "xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k"])
def test_the_multilingual_row_has_its_descriptor(name: str) -> None:
    row = find_backbone(name)
    assert (row.name, row.output_dim, row.task) == ("clip-base-multi", 512, "text-to-image")


@pytest.mark.parametrize(
    ("name", "architecture", "tag"),
    [
        ("resnet34", "resnet34", "a1_in1k"),
        ("resnet34.tv_in1k", "resnet34", "tv_in1k"),
        ("resnet34::tv_in1k", "resnet34", "tv_in1k"),
        ("resnet34::/a/b.pt", "resnet34", "/a/b.pt"),
        ("resnet50.tv_in1k", "resnet50", "tv_in1k"),
        ("convnext_tiny", "convnext_tiny", "in12k_ft_in1k"),  # open_clip has it, too, and needs a tag
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"),
    ],
)
def test_a_timm_name_makes_a_row(name: str, architecture: str, tag: str) -> None:
    row = find_backbone(name)
    assert (row.name, row.architecture, row.pretrained, row.task) == (name, architecture, tag, IMAGE_TASK)
    assert find_backbone(row.name) == row
    assert row.learning_rate == find_backbone("resnet-base").learning_rate
    assert row.licence == "", "timm's weights have many licences"


@pytest.mark.parametrize("name", ["resnet34.a9_in1k", "resnet50_gn_random", "resnet10t::", "vit_base_patch16_xp_224"])
def test_unknown_weights_of_timm_are_refused(name: str) -> None:
    with pytest.raises(NoSuchModel, match=f"Got '{name}'"):
        find_backbone(name)


@pytest.mark.process
def test_only_the_weights_of_timms_names_import_it() -> None:
    code = (
        "import sys; from finetuner.models.backbones import row_of\n"
        "names = ('resnet50', 'clip-base-multi', 'ViT-B-32::openai', 'resnet34::a.pt', 'nowhere', 'nowhere::x')\n"
        "assert [row_of(name) is None for name in names] == [False] * 4 + [True] * 2\n"
        "assert not {'timm', 'torch', 'open_clip'} & set(sys.modules), 'imported'"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_checkpoint_path_may_hold_separators() -> None:
    assert find_backbone("ViT-B-32::/a/b#c::d.pt").pretrained == "/a/b#c::d.pt"
    assert Path(find_backbone("RN50::C:/x.safetensors").pretrained).suffix == ".safetensors"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip-mimi", r"model must be one of clip-mini, .*Got 'clip-mimi'. Nearest: clip-mini"),
        ("openai/clip-vit-base-patch23", r"Nearest: openai/clip-vit-base-patch32"),
        (
            "ViT-B-23::openai",
            r"must be one that open_clip or timm lists. Got 'ViT-B-23'. Nearest: ViT-B-32",
        ),
        ("resnet35", r"a timm name, ARCH::TAG .*Got 'resnet35'. Nearest: resnet"),
        ("ViT-B-32::", "Got 'ViT-B-32::'"),
        ("", "Got ''.*finetuner.list_models"),
        ("§§§§", "Nearest: none"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, expected: str) -> None:
    assert row_of(name) is None
    with pytest.raises(NoSuchModel, match=expected) as caught:
        find_backbone(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_model_that_is_a_program_is_refused_with_the_rows_that_are_nearest(name: str) -> None:
    with pytest.raises(
        NoSuchModel, match=f"Got '{name}', whose architecture is a program .*: it is not run. Nearest: "
    ):
        find_backbone(name)
    nearest, _, _ = ELSEWHERE[name].partition(" (")
    assert all(find_backbone(one) in ROWS for one in nearest.split(", "))
