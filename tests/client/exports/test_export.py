"""Exported artifacts load in their own library, by the lines of their card, and give our vectors."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, processors, trainers
from transformers import CLIPImageProcessor
from typer.testing import CliRunner

import finetuner
from finetuner.artifacts.load import load_artifact
from finetuner.artifacts.manifest import Manifest
from finetuner.artifacts.publish import publish_artifact
from finetuner.catalogue import fashion
from finetuner.cli.main import app
from finetuner.exceptions import AlreadyExists, CorruptedArtifact, FinetunerError, InvalidInput
from finetuner.exports.card import NOTES, model_card
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_model import ImageModel, ImageModelConfig, ImagePreprocess, build_image_model
from finetuner.models.text.text_towers import FileTokenizer
from finetuner.workspace.folder import Workspace

pytestmark = pytest.mark.seconds
TEXTS = [
    "a red dress",
    "Ein  blaues Hemd!\nmit langen Ärmeln ",
    "x",
    "",
    "striped socks, worn by 12 men's feet in the rain " * 9,
    "日本語 naïve café 🙂",
]
PREPROCESS = ImagePreprocess(64, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), "bilinear", 0.9)
LINE = "a red dress"  # of the cards


def clip_mini() -> Clip:
    model = load_backbone(find_backbone("clip-mini"))
    with torch.no_grad():
        model.network.logit_scale += 0.1  # tuned
    return model


def vit(activation: str = "gelu") -> Clip:
    """Return a small CLIP of random weights with CLIP's own tokenizer."""
    config = {
        "embed_dim": 32,
        "quick_gelu": activation == "quick_gelu",
        "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    torch.manual_seed(0)
    network = open_clip.CLIP(**config).eval()  # type: ignore[arg-type]
    network.visual.preprocess_cfg = {"size": 64, "interpolation": "bicubic", "resize_mode": "shortest"}  # type: ignore
    from finetuner.models.text.clip_tokenizer import open_clip_tokenizer

    return Clip(network, open_clip_tokenizer("ViT-B-32"), config, "vit")


def with_tokenizer_of_a_file() -> Clip:
    """Return a small CLIP of random weights with a tokenizer as SigLIP's: a file that pads, and cleaned texts."""
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    tokenizer.enable_padding(length=16, pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(16)
    text_cfg = {"context_length": 16, "vocab_size": 90, "width": 64, "heads": 2, "layers": 2}
    text_cfg |= {"hf_tokenizer_name": "elsewhere/siglip", "tokenizer_kwargs": {"clean": "canonicalize"}}
    plain = vit()
    config = plain.config | {"text_cfg": text_cfg}
    network = open_clip.CLIP(**config).eval()
    network.visual.preprocess_cfg = plain.network.visual.preprocess_cfg
    content = tokenizer.to_str()
    return Clip(network, FileTokenizer(content, text_cfg), config, "siglip", {"tokenizer.json": content})


def image_model(architecture: str = "resnet10t", **options: Any) -> ImageModel:
    torch.manual_seed(0)
    preprocess = replace(PREPROCESS, size=224) if "224" in architecture else PREPROCESS
    return build_image_model(ImageModelConfig(architecture, preprocess, **options), "image-model", architecture)


@pytest.fixture
def published(tmp_path: Path) -> Callable[[Clip | ImageModel], Path]:
    def publish(model: Clip | ImageModel) -> Path:
        metrics = {"before": {"recall_at_5": 0.25}, "after": {"recall_at_5": 0.5}}
        manifest = Manifest(
            "0" * 24, "my-run", "clip-mini", model.dim, [*model.towers], metrics, {}, "2026-01-01", "0", "clip-mini"
        )
        return publish_artifact(Workspace(tmp_path / "workspace"), model, manifest, {})

    return publish


@pytest.fixture
def image() -> Image.Image:
    """An image of the catalogue."""
    return Image.open(io.BytesIO(next(iter(fashion("test", items=1))).jpeg)).convert("RGB")


@pytest.fixture(autouse=True)
def quiet_transformers() -> Iterator[None]:
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


Export = Callable[[Clip | ImageModel, str], tuple[Path, dict[str, Any], Image.Image]]


@pytest.fixture
def export(published: Any, tmp_path: Path, image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Return a function that exports a model and runs the lines of its card: the folder, their names, their image."""

    def export(model: Clip | ImageModel, to: str) -> tuple[Path, dict[str, Any], Image.Image]:
        folder = Path(finetuner.export_artifact(published(model), to, tmp_path / "exported"))
        image.save(folder / "image.jpg", quality=100, subsampling=0)
        (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
        monkeypatch.chdir(folder)
        names: dict[str, Any] = {}
        exec(lines, names)
        return folder, names, Image.open(folder / "image.jpg").convert("RGB")

    return export


def unit(vectors: Any) -> np.ndarray:
    array: np.ndarray = torch.nn.functional.normalize(vectors.detach(), dim=-1).numpy()
    return array


@pytest.mark.parametrize(
    "make",
    [clip_mini, vit, lambda: vit("quick_gelu"), with_tokenizer_of_a_file],
    ids=["clip-mini", "gelu", "quick-gelu", "file"],
)
def test_open_clip_gives_our_vectors(make: Callable[[], Clip], export: Export) -> None:
    model = make()
    _, found, saved = export(model, "open_clip")
    np.testing.assert_allclose(found["texts"].numpy(), model.encode_texts([LINE]), atol=1e-5)
    np.testing.assert_allclose(found["images"].numpy(), model.encode_images([saved]), atol=1e-5)
    with torch.inference_mode():
        texts = unit(found["model"].encode_text(found["tokenizer"]([*TEXTS, "jeans &amp; shirt"])))
    np.testing.assert_allclose(texts, model.encode_texts([*TEXTS, "jeans &amp; shirt"]), atol=1e-5)


def squashed() -> Clip:
    """Return a small CLIP whose images are resized to a square, whatever their sides."""
    model = vit()
    network: Any = model.network
    network.visual.preprocess_cfg |= {"resize_mode": "squash"}
    return Clip(network, model.tokenizer, model.config, "squashed")


@pytest.mark.parametrize(
    "make",
    [clip_mini, vit, lambda: vit("quick_gelu"), squashed],
    ids=["clip-mini", "gelu", "quick-gelu", "squashed"],
)
def test_transformers_gives_our_vectors(make: Callable[[], Clip], export: Export) -> None:
    model = make()
    folder, found, saved = export(model, "transformers")
    np.testing.assert_allclose(found["texts"].numpy(), model.encode_texts([LINE]), atol=1e-5)
    np.testing.assert_allclose(found["images"].numpy(), model.encode_images([saved]), atol=1e-5)
    by_torchvision = CLIPImageProcessor.from_pretrained(folder)(saved, return_tensors="pt")
    tokens = found["tokenizer"](TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        output = found["model"](**tokens, **by_torchvision)
    np.testing.assert_allclose(output.text_embeds.numpy(), model.encode_texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(output.image_embeds.numpy(), model.encode_images([saved]), atol=1e-3)
    assert torch.equal(found["model"].logit_scale, model.network.logit_scale)
    names = json.loads((folder / "tokenizer_config.json").read_text())
    assert names["tokenizer_class"] == "PreTrainedTokenizerFast"  # in transformers 4, too
    assert "token_type_ids" not in names["model_input_names"]


@pytest.mark.parametrize("make", [clip_mini, vit], ids=["clip-mini", "gelu"])
def test_sentence_transformers_gives_our_vectors(make: Callable[[], Clip], export: Export) -> None:
    model = make()
    _, found, saved = export(model, "sentence-transformers")
    np.testing.assert_allclose(found["texts"], model.encode_texts([LINE]), atol=1e-5)
    np.testing.assert_allclose(found["images"], model.encode_images([saved]), atol=1e-5)
    np.testing.assert_allclose(found["model"].encode(TEXTS), model.encode_texts(TEXTS), atol=1e-5)
    assert float(found["model"].similarity(found["texts"], found["texts"])) == pytest.approx(1, abs=1e-5)


def test_timm_gives_our_vectors(export: Export) -> None:
    model = image_model()
    _, found, saved = export(model, "timm")
    np.testing.assert_allclose(found["images"].numpy(), model.encode_images([saved]), atol=1e-5)


@pytest.mark.parametrize("make", [vit, image_model], ids=["clip", "image model"])
@pytest.mark.slow
def test_onnx_files_run(make: Callable[[], Any], export: Export, image: Image.Image) -> None:
    model = make()
    _, found, _ = export(model, "onnx")
    assert found["images"].shape == (1, model.dim)
    pixels = model.preprocess(image)[None].numpy()
    (vectors,) = found["session"].run(["embeddings"], {"pixels": pixels})
    np.testing.assert_allclose(vectors, model.encode_images([image]), atol=1e-4)


def test_open_clip_refuses_the_artifact_itself(published: Any) -> None:
    """It would load random weights with no more than a warning."""
    folder = published(vit())
    with pytest.raises(RuntimeError, match="finetuner artifact export ID"):
        open_clip.create_model_and_transforms(f"local-dir:{folder / 'models'}")
    assert isinstance(load_artifact(folder), Clip)


def test_the_card_says_what_it_is(published: Any, tmp_path: Path) -> None:
    folder = Path(finetuner.export_artifact(published(vit()), "transformers", tmp_path / "exported"))
    card = (folder / "README.md").read_text()
    assert card.startswith("# my-run\n")
    assert "| recall_at_5 | 0.2500 | 0.5000 |" in card
    assert "licence of those that it was tuned from (`clip-mini`)" in card
    assert NOTES["transformers"] in card


@pytest.mark.parametrize(
    ("make", "to", "message"),
    [
        (vit, "timm", "to='timm' cannot hold a CLIP. Got .* Take to='open_clip'"),
        (image_model, "open_clip", "to='open_clip' cannot hold an image model"),
        (lambda: image_model(output_dim=16), "timm", "needs average pooling and no head. Got pooling average"),
        (lambda: image_model(pooling="GeM"), "timm", "needs average pooling and no head. Got pooling GeM"),
        (lambda: image_model("vit_tiny_patch16_224"), "timm", "needs a network that timm pools as we do. Got vit_tiny"),
        (vit, "clip", "to must be one of open_clip, transformers, sentence-transformers, timm, onnx"),
    ],
    ids=["clip-timm", "image-open_clip", "head", "gem", "class token", "unknown"],
)
def test_what_a_library_cannot_hold_is_refused_and_leaves_nothing(
    make: Callable[[], Any], to: str, message: str, published: Any, tmp_path: Path
) -> None:
    artifact = published(make())
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidInput, match=message):
        finetuner.export_artifact(artifact, to, tmp_path / "exported")
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_exists_stays_as_it_is(published: Any, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    with pytest.raises(AlreadyExists, match="directory must not exist yet"):
        finetuner.export_artifact(published(vit()), "open_clip", tmp_path / "exported")
    assert not [*(tmp_path / "exported").iterdir()]


def test_a_damaged_artifact_is_refused(published: Any, tmp_path: Path) -> None:
    artifact = published(vit())
    weights = artifact / "models/clip-text/weights.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises((CorruptedArtifact, FinetunerError)):
        finetuner.export_artifact(artifact, "open_clip", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_command_exports_a_folder(published: Any, tmp_path: Path) -> None:
    artifact = published(image_model())
    result = CliRunner().invoke(app, ["artifact", "export", str(artifact), str(tmp_path / "out"), "--to", "timm"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").is_file()


def test_the_card_names_the_short_vectors(mini: Clip) -> None:
    manifest = Manifest("0" * 24, "my-run", "clip-mini", mini.dim, [*mini.towers], {}, {}, "2026-01-01", "0")
    assert "normalised again" not in model_card(manifest, mini, "open_clip")
    short = replace(manifest, training={"loss_options": {"matryoshka_dims": [64, 32]}})
    card = model_card(short, mini, "open_clip")
    assert "The first 64 or 32 numbers of an embedding, normalised again, are an embedding too." in card


@pytest.mark.parametrize("to", ["open_clip", "transformers", "onnx"])
def test_a_folder_of_int8_onnx_files_is_no_artifact(to: str, tmp_path: Path) -> None:
    """An export of ONNX files has no weights that another library could load."""
    (tmp_path / "onnx/clip-text").mkdir(parents=True)
    (tmp_path / "onnx/clip-text/model-int8.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(FinetunerError, match=r"artifact|manifest"):
        finetuner.export_artifact(tmp_path / "onnx", to, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
