"""Models come from the hub by name, from a stand-in here: only what is needed, and nothing outside the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import read_manifest
from finetuner.exceptions import InvalidInput, NoSuchModel
from finetuner.exports.timm_folder import write_timm
from finetuner.imports.artifact import import_model
from finetuner.imports.clip_model import read_clip
from finetuner.imports.hub import MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES, fetch_model
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from tests.client.exports.test_export import image_model
from tests.client.imports.made_chinese_clip import TEXTS, write_chinese_clip
from tests.hub_stand_in import NAME, Hub, started_hub

pytestmark = pytest.mark.seconds


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with started_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        hub.files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"pickle"}
        yield hub


def test_a_model_of_the_hub_becomes_an_artifact(hub: Hub, tmp_path: Path) -> None:
    model = image_model()
    (tmp_path / "timm").mkdir()
    write_timm(model, tmp_path / "timm")
    hub.files |= {path.name: path.read_bytes() for path in (tmp_path / "timm").iterdir()}
    artifact = import_model(f"hf-hub:{NAME}", tmp_path / "workspace")
    assert isinstance(artifact, Path)
    manifest = read_manifest(artifact)
    assert (manifest.run_name, manifest.backbone) == ("model", "imported-image::resnet10t")
    images = [Image.linear_gradient("L").convert("RGB")]
    np.testing.assert_allclose(load_artifact(artifact).encode_images(images), model.encode_images(images), atol=1e-5)
    assert sorted(hub.asked) == ["config.json", "model.safetensors"]
    fetch_model(f"hf-hub:{NAME}")
    assert len(hub.asked) == 2, "the second time it is in the cache"


def test_weights_of_open_clip_are_preferred_where_both_are_there(hub: Hub) -> None:
    hub.files |= {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"x"}
    folder = fetch_model(f"hf-hub:{NAME}")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "open_clip_config.json", "open_clip_model.safetensors",
    ]  # fmt: skip


def outside(hub: Hub) -> None:
    hub.files["../../evil.safetensors"] = b"x"


def absolute(hub: Hub) -> None:
    hub.files["/etc/config.json"] = b"x"


def backslash(hub: Hub) -> None:
    hub.files["..\\config.json"] = b"x"


def huge_config(hub: Hub) -> None:
    hub.sizes["config.json"] = MAX_CONFIG_BYTES + 1


def huge_weights(hub: Hub) -> None:
    hub.sizes["model.safetensors"] = MAX_WEIGHTS_BYTES + 1


def negative(hub: Hub) -> None:
    hub.sizes["model.safetensors"] = -1


def another_size(hub: Hub) -> None:
    hub.sizes["model.safetensors"] = 3


def pickle_alone(hub: Hub) -> None:
    del hub.files["model.safetensors"]


def commit(hub: Hub) -> None:
    hub.commit = "../../outside"


@pytest.mark.parametrize(
    ("spoil", "message", "fetched"),
    [
        (outside, "must be inside its folder. Got '../../evil.safetensors'", False),
        (absolute, "must be inside its folder. Got '/etc/config.json'", False),
        (backslash, "must be inside its folder", False),
        (huge_config, f"config.json of hf-hub:{NAME} must have at most {MAX_CONFIG_BYTES} bytes", False),
        (huge_weights, f"weights of hf-hub:{NAME} must have at most {MAX_WEIGHTS_BYTES} bytes", False),
        (negative, "must have at most", False),
        (another_size, "must have 3 bytes, as the hub says. Got 7", True),
        (pickle_alone, "must hold its weights as model.safetensors .* Got config.json, pytorch_model.bin", False),
        (commit, "must name the commit", False),
    ],
)
def test_hostile_answers_are_refused(spoil: Callable[[Hub], None], message: str, fetched: bool, hub: Hub) -> None:
    spoil(hub)
    with pytest.raises(InvalidInput, match=message):
        fetch_model(f"hf-hub:{NAME}")
    assert bool(hub.asked) == fetched


def test_a_row_of_the_hub_is_fetched_by_its_name(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    write_chinese_clip(tmp_path / "given")
    hub.files = {path.name: path.read_bytes() for path in (tmp_path / "given").iterdir()}
    row = replace(find_backbone("chinese-clip-base"), source=NAME)
    monkeypatch.setattr("finetuner.imports.artifact.ROWS", (row,))
    made = import_model("chinese-clip-base", tmp_path / "workspace")
    assert isinstance(made, Path)
    expected = read_clip(tmp_path / "given", "given").encode_texts(TEXTS)
    model = load_artifact(made)
    assert isinstance(model, Clip)
    np.testing.assert_allclose(model.encode_texts(TEXTS), expected, atol=1e-6)
    assert "vocab.txt" in hub.asked


def test_a_program_of_a_repository_is_refused_before_its_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.files["config.json"] = b'{"model_type": "jina_clip", "auto_map": {"AutoModel": "modeling_clip.JinaCLIPModel"}}'
    with pytest.raises(InvalidInput, match="Got the model_type 'jina_clip'. No program .* is run. Choose one of"):
        fetch_model(f"hf-hub:{NAME}")
    assert hub.asked == ["config.json"]
    with pytest.raises(NoSuchModel, match="is a program in its repository: it is not run. Nearest: siglip2-base"):
        import_model("hf-hub:jinaai/jina-clip-v2", tmp_path)
    assert hub.asked == ["config.json"]


@pytest.mark.parametrize(
    "name", ["hf-hub:", "hf-hub:model", "hf-hub:a/../b", "hf-hub:a/..", "hf-hub:a/b/c", "hf-hub:a/b?c"]
)
def test_a_malformed_name_is_refused(name: str, hub: Hub) -> None:
    with pytest.raises(InvalidInput, match="must be hf-hub:OWNER/NAME"):
        fetch_model(name)


def test_a_model_that_is_not_there_is_refused(hub: Hub) -> None:
    with pytest.raises(NoSuchModel, match="hf-hub:owner/another must be a model that the hub gives. Got: .* HF_TOKEN"):
        fetch_model("hf-hub:owner/another")
