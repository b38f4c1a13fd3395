"""Every kind of model that public modules of sentence-transformers hold loads there untouched, with our vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

import finetuner
from finetuner.artifacts.manifest import read_manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.contract.environment import STAND_INS
from finetuner.exceptions import InvalidInput
from finetuner.exports.sentence_transformers_folder import write_sentence_transformers
from finetuner.imports.parts import read_parts
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_folder
from finetuner.models.image_model import ImageModel, ImageModelConfig, build_image_model
from finetuner.models.text.clip_tokenizer import open_clip_tokenizer
from finetuner.models.text.text_towers import FileTokenizer
from finetuner.workspace.folder import Workspace
from tests.client.exports.small_siglip import padded_tokenizer, siglip
from tests.client.exports.test_export import PREPROCESS, export, image, image_model, published, quiet_transformers, vit
from tests.client.imports.made_bert import write_bert

__all__ = ["export", "image", "published", "quiet_transformers"]  # fixtures
pytestmark = pytest.mark.seconds
TEXTS = ["a red dress", "Ein  blaues_Hemd!\nmit (langen) Ärmeln ", "", "striped [socks] \\ ^ men's feet " * 9, "x"]
TIMM = {"image_size": 64, "timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"}
OWN_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    (tmp_path / "bert").mkdir()
    write_bert(tmp_path / "bert")
    return tmp_path / "bert"


def parts(bert: Path, monkeypatch: pytest.MonkeyPatch) -> Clip:
    """Return a CLIP of a network of timm and BERT."""
    monkeypatch.setenv(STAND_INS, "none=none")
    return read_parts(f"resnet-mini-random+{bert}", "parts")


def of_bert(bert: Path, monkeypatch: pytest.MonkeyPatch, **text: Any) -> Clip:
    """Return a CLIP as `xlm-roberta-base-ViT-B-32`: a plain vision transformer, and a text tower of transformers."""
    files = parts(bert, monkeypatch).files
    text_cfg = {
        "hf_model_name": "elsewhere/bert", "hf_tokenizer_name": "elsewhere/bert", "context_length": 40,
        "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler", **text,
    }  # fmt: skip
    config = {"embed_dim": 48, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": text_cfg}
    folder = bert.parent / "of-bert"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    torch.manual_seed(0)
    return load_folder(folder, "of-bert", load_weights=False)


def of_timm(custom: bool = False, **vision: Any) -> Clip:
    """Return a CLIP with an image tower of timm and CLIP's own text tower."""
    other = {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}} if custom else {}
    config = {"embed_dim": 48, "vision_cfg": TIMM | vision, "text_cfg": OWN_TEXT | other}
    torch.manual_seed(0)
    network: Any = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()  # type: ignore[arg-type]
    size = config["vision_cfg"]["image_size"]
    network.visual.preprocess_cfg = {"size": size, "interpolation": "bicubic", "resize_mode": "shortest"}
    if custom:
        config["custom_text"] = True
    return Clip(network, open_clip_tokenizer("ViT-B-32"), config, "of-timm")


def with_head() -> ImageModel:
    """Return an image model whose head has batch norms of random statistics."""
    model = image_model("test_resnet", output_dim=24)
    for norm in (part for part in model.network.head.modules() if isinstance(part, torch.nn.BatchNorm1d)):
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        norm.weight.data.normal_()
    return model


def tokens() -> ImageModel:
    """Return an image model whose average leaves out the class token that timm pools."""
    config = ImageModelConfig("test_vit", replace(PREPROCESS, size=160))
    return build_image_model(config, "image-model", "test_vit")


CLIPS: dict[str, Callable[[Path, pytest.MonkeyPatch], Clip]] = {
    "siglip": lambda bert, patch: siglip(),
    "parts": parts,
    "bert": of_bert,
    "bert-cls": lambda bert, patch: of_bert(
        bert, patch, hf_proj_type="linear", hf_pooler_type="cls_last_hidden_state_pooler"
    ),
    "timm": lambda bert, patch: of_timm(timm_proj="mlp"),
    "timm-classifier": lambda bert, patch: of_timm(custom=True, timm_proj=None),
    "timm-tokens": lambda bert, patch: of_timm(timm_model_name="test_vit", timm_pool="avg", image_size=160),
}


SLOW = ("bert-cls", "timm", "timm-tokens")  # the others have the same parts


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CLIPS])
def test_a_clip_gives_our_vectors(name: str, bert: Path, monkeypatch: pytest.MonkeyPatch, export: Any) -> None:
    model = CLIPS[name](bert, monkeypatch)
    folder, found, saved = export(model, "sentence-transformers")
    np.testing.assert_allclose(found["texts"], model.encode_texts(["a red dress"]), atol=1e-5)
    np.testing.assert_allclose(found["images"], model.encode_images([saved]), atol=1e-5)
    np.testing.assert_allclose(found["model"].encode(TEXTS), model.encode_texts(TEXTS), atol=1e-5)
    assert found["model"].encode(TEXTS).shape == (5, model.dim)
    assert not list(folder.rglob("*.py"))
    assert "auto_map" not in "".join(file.read_text() for file in folder.rglob("*config*.json"))


@pytest.mark.parametrize(
    "make",
    [lambda: image_model("test_resnet"), with_head, tokens],
    ids=["plain", "head", "tokens"],
)
def test_an_image_model_gives_our_vectors(make: Callable[[], ImageModel], export: Any) -> None:
    model = make()
    _, found, saved = export(model, "sentence-transformers")
    np.testing.assert_allclose(found["images"], model.encode_images([saved]), atol=1e-5)
    assert "texts" not in found


def test_what_was_loaded_is_saved_and_loaded_again(
    bert: Path, monkeypatch: pytest.MonkeyPatch, export: Any, tmp_path: Path
) -> None:
    """People tune on with sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    _, found, saved = export(parts(bert, monkeypatch), "sentence-transformers")
    found["model"].save(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"))
    np.testing.assert_allclose(again.encode(["a red dress"]), found["texts"], atol=1e-6)
    np.testing.assert_allclose(again.encode([saved]), found["images"], atol=1e-6)


def resnet() -> Clip:
    """Return a CLIP with CLIP's own ResNet, which timm and transformers do not have."""
    plain = vit()
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    config = plain.config | {"vision_cfg": vision}
    network: Any = open_clip.CLIP(**config).eval()
    network.visual.preprocess_cfg = plain.network.visual.preprocess_cfg
    return Clip(network, plain.tokenizer, config, "resnet")


def padded_around() -> Clip:
    model = of_timm()
    model.preprocess_config.resize_mode = "longest"
    return model


REFUSED: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], Any], str]] = {
    "resnet": (lambda bert, patch: resnet(), "the image tower ModifiedResNet"),
    "gem": (lambda bert, patch: image_model("test_resnet", pooling="GeM"), "an image model with pooling GeM"),
    "longest": (lambda bert, patch: padded_around(), "images resized by 'longest'"),
    "pooler": (lambda bert, patch: of_bert(bert, patch, hf_pooler_type="cls_pooler"), "a text tower with ClsPooler"),
    "separator": (
        lambda bert, patch: of_bert(bert, patch, tokenizer_kwargs={"strip_sep_token": True}),
        "a tokenizer that replaces tokens",
    ),
    "another": (lambda bert, patch: another_network(), "test_resnet, which timm alone computes otherwise"),
}


def another_network() -> Clip:
    """Return a CLIP whose tower of timm was changed in a way that its name does not tell."""
    model = of_timm()
    model.network.visual.trunk.act1 = torch.nn.Tanh()
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_module_holds_is_refused(
    name: str, bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make, found = REFUSED[name]
    with pytest.raises(InvalidInput, match=f"needs towers that its modules hold.*Got {found}. Take to='onnx'"):
        write_sentence_transformers(make(bert, monkeypatch), tmp_path)


def test_the_model_exports_what_it_was_loaded_from(published: Any, tmp_path: Path) -> None:
    """`get_model(...).export(...)` is `export_artifact`, whatever tower was loaded."""
    artifact = published(vit())
    model = finetuner.get_model(artifact, select_model="clip-text", device="cpu")
    made = Path(model.export("open_clip", tmp_path / "out"))
    assert made == tmp_path / "out"
    same = Path(finetuner.export_artifact(artifact, "open_clip", tmp_path / "same"))
    assert {path.relative_to(made): path.read_bytes() for path in made.rglob("*.*") if path.is_file()} == {
        path.relative_to(same): path.read_bytes() for path in same.rglob("*.*") if path.is_file()
    }
    with pytest.raises(InvalidInput, match="to must be one of"):
        model.export("clip", tmp_path / "other")
    with pytest.raises(InvalidInput, match="push_to_hub must be OWNER/NAME"):
        model.export("timm", tmp_path / "other", push_to_hub="nonsense")


def test_a_pretrained_model_or_a_replaced_artifact_is_not_exported(published: Any, tmp_path: Path) -> None:
    pretrained = finetuner.build_model("clip-mini", select_model="clip-text", device="cpu")
    with pytest.raises(InvalidInput, match="export needs a tuned or imported model, of get_model. Got clip-mini"):
        pretrained.export("open_clip", tmp_path / "out")
    artifact = published(vit())
    model = finetuner.get_model(artifact, select_model="clip-text", device="cpu")
    manifest = replace(read_manifest(artifact), artifact_id="1" * 24)
    other = publish_artifact(Workspace(tmp_path / "other"), vit("quick_gelu"), manifest, {})
    shutil.rmtree(artifact)
    other.rename(artifact)
    with pytest.raises(finetuner.exceptions.ArtifactNotFound, match=f"must be {'0' * 24}.*Got {'1' * 24}.*Load the"):
        model.export("open_clip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def whole(architecture: str) -> Clip:
    """Return a model of open_clip of its full size, with random weights."""
    config = dict(open_clip.get_model_config(architecture) or {})
    custom = config.get("custom_text", False)
    given = {name: value for name, value in config.items() if name != "custom_text"}
    torch.manual_seed(0)
    network: Any = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**given).eval()
    padded = "SigLIP" in architecture
    mode = "squash" if padded else "shortest"
    network.visual.preprocess_cfg = {"size": 224, "interpolation": "bicubic", "resize_mode": mode}
    if not padded:
        return Clip(network, open_clip_tokenizer("ViT-B-32"), config, architecture)
    files = {"tokenizer.json": padded_tokenizer(64).to_str()}
    return Clip(network, FileTokenizer(files["tokenizer.json"], config["text_cfg"]), config, architecture, files)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "to"),
    [
        ("ViT-B-32", "open_clip"),
        ("ViT-B-32", "transformers"),
        ("ViT-B-32", "sentence-transformers"),
        ("ViT-B-16-SigLIP", "open_clip"),
        ("ViT-B-16-SigLIP", "sentence-transformers"),
        ("EVA02-B-16", "sentence-transformers"),
    ],
)
def test_a_whole_clip_gives_our_vectors(architecture: str, to: str, export: Any) -> None:
    """150 to 200 million weights."""
    model = whole(architecture)
    _, found, saved = export(model, to)
    np.testing.assert_allclose(found["texts"], model.encode_texts(["a red dress"]), atol=1e-5)
    np.testing.assert_allclose(found["images"], model.encode_images([saved]), atol=1e-5)
