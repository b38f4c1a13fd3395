"""XLM-R CLIPs: equal to open_clip itself, saved and loaded without network or code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, XLMRobertaConfig

import finetuner
from finetuner.artifacts.archive import zip_artifact
from finetuner.artifacts.manifest import verify_artifact
from finetuner.artifacts.publish import publish_artifact
from finetuner.exceptions import CorruptedArtifact, KeysMismatchError, NoSuchModel
from finetuner.models.backbone import Backbone
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import TEXT, TOWERS, VISION, Clip, text_features
from finetuner.models.clip_files import check_towers, load_backbone, load_towers, save_towers
from finetuner.models.text.text_towers import FileTokenizer, find_text_files
from finetuner.workspace.folder import Workspace
from tests.client.conftest import manifest

ARCHITECTURE, TAG = "xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k"
TEXTS = ["", "a red dress", "ein langes blaues Kleid mit weißen Punkten", "  two   spaces ", "😀", "striped " * 200]
VISION_CFG = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Any:
    """Let the hub's clients raise at once, as HF_HUB_OFFLINE=1 does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        # A small vision tower replaces ViT-B-32. All else is open_clip's own architecture.
        config = open_clip.get_model_config(ARCHITECTURE)
        patch.setitem(open_clip.factory._MODEL_CONFIGS, ARCHITECTURE, config | {"vision_cfg": VISION_CFG})
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a weights folder with a small XLM-R CLIP of random weights, in the hub's files."""
    folder = tmp_path_factory.mktemp("weights")
    inner = folder / ARCHITECTURE
    inner.mkdir()
    vocabulary = write_tokenizer(inner / "tokenizer.json")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    XLMRobertaConfig(vocab_size=vocabulary, max_position_embeddings=90, **sizes).save_pretrained(inner)
    state = reference(folder).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, inner / f"{TAG}.safetensors")
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, folder / "mine.pt")
    return folder


def write_tokenizer(file: Path) -> int:
    """Write a tokenizer in XLM-R's form and return the size of its vocabulary."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(file))
    return int(tokenizer.get_vocab_size())


def reference(weights: Path) -> torch.nn.Module:
    """Return open_clip's own network of the folder's text tower, with random weights of a fixed seed."""
    torch.manual_seed(0)
    text_cfg = open_clip.get_model_config(ARCHITECTURE)["text_cfg"]
    text_cfg |= {"hf_model_name": str(weights / ARCHITECTURE), "hf_model_pretrained": False}
    network: torch.nn.Module = open_clip.create_model(ARCHITECTURE, pretrained_text=False, text_cfg=text_cfg)
    return network.eval()


@pytest.fixture(scope="module")
def model(weights: Path) -> Clip:
    """Return the same model as `load_backbone` loads it. Tests do not change it."""
    return load_backbone(find_backbone("clip-base-multi"), weights_folder=weights)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(0, 256, (40, 56, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.seconds
def test_embeddings_equal_open_clips(model: Clip, weights: Path, images: list[Image.Image]) -> None:
    network = reference(weights)
    tokens = HFTokenizer(str(weights / ARCHITECTURE), 77)(TEXTS)
    assert torch.equal(model.tokenizer(TEXTS), tokens)
    with torch.inference_mode():
        texts = network.encode_text(tokens, normalize=True).numpy()
        pixels = torch.stack([model.preprocess(image) for image in images])
        vision = network.encode_image(pixels, normalize=True).numpy()
    for batch_size in (1, 2, 32):
        assert np.abs(model.encode_texts(TEXTS, batch_size) - texts).max() < 1e-5
        assert np.abs(model.encode_images(images, batch_size) - vision).max() < 1e-5
    assert model.dim == 512


@pytest.mark.parametrize("server", [True, False])
def test_a_path_and_the_weights_folder_give_the_same_weights(
    model: Clip, weights: Path, monkeypatch: pytest.MonkeyPatch, server: bool
) -> None:
    monkeypatch.setenv("FINETUNER_WEIGHTS", str(weights))
    for row in (find_backbone("clip-base-multi"), find_backbone(f"{ARCHITECTURE}::mine.pt")):
        again = load_backbone(row, weights_folder=weights if server else None)
        assert np.array_equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
        assert again.preprocess_config == model.preprocess_config


def test_towers_round_trip_to_the_bit(model: Clip, tmp_path: Path, images: list[Image.Image]) -> None:
    save_towers(model, tmp_path / "one")
    save_towers(load_towers(tmp_path / "one", "x"), tmp_path / "two")
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert [str(name) for name in names if len(name.parts) == 1] == [
        "config.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "tokenizer.json",
    ]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    again = load_towers(tmp_path / "two", "again")
    before, after = model.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert np.array_equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert np.array_equal(again.encode_images(images), model.encode_images(images))


@pytest.mark.seconds
@pytest.mark.parametrize("to_onnx", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_get_model_loads_its_artifact(model: Clip, tmp_path: Path, images: list[Image.Image], *, to_onnx: bool) -> None:
    described = replace(manifest(), backbone="clip-base-multi", output_dim=512)
    folder = publish_artifact(Workspace(tmp_path), model, described, {"model": "clip-base-multi"}, to_onnx=to_onnx)
    assert {"models/config.json", "models/tokenizer.json"} < set(verify_artifact(folder).files)
    for path in (folder, zip_artifact(folder, tmp_path / "x.zip", "x")):
        text = finetuner.get_model(str(path), select_model=TEXT, device="cpu")
        assert np.array_equal(finetuner.encode(text, TEXTS[1:]), model.encode_texts(TEXTS[1:]))
    if not to_onnx:
        return
    onnx = {tower: finetuner.get_model(str(folder), select_model=tower, is_onnx=True, device="cpu") for tower in TOWERS}
    assert np.abs(onnx[TEXT].encoder.encode_texts(TEXTS) - model.encode_texts(TEXTS)).max() < 1e-4
    assert onnx[TEXT].encoder._cut(model.tokenizer(["", "a red dress"]).numpy()).shape[1] < 77
    assert np.abs(onnx[VISION].encoder.encode_images(images) - model.encode_images(images)).max() < 1e-4


def test_both_towers_are_trained(weights: Path, model: Clip) -> None:
    network = load_backbone(find_backbone("clip-base-multi"), weights_folder=weights).network.train()
    image = network.encode_image(torch.randn(4, 3, 32, 32))
    (text_features(network, model.tokenizer(TEXTS[:4])) @ image.T).logsumexp(1).sum().backward()
    still = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert [key for key in still if not key.endswith("key.bias")] == ["logit_scale"]


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", f"{TAG}.safetensors"])
def test_a_missing_file_is_named_with_each_path(weights: Path, tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    (folder / ARCHITECTURE / missing).unlink()
    with pytest.raises(NoSuchModel) as caught:
        load_backbone(find_backbone("clip-base-multi"), weights_folder=folder)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{folder / ARCHITECTURE / missing}, " in message
    repository = "laion--CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k" if TAG in missing else "xlm-roberta-base"
    assert f"{constants.HF_HUB_CACHE}/models--{repository}/snapshots/" in message


def test_the_hubs_cache_is_read(weights: Path, model: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    files = {
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k": {f"{TAG}.safetensors": "open_clip_model.safetensors"},
        "xlm-roberta-base": {"config.json": "config.json", "tokenizer.json": "tokenizer.json"},
    }
    for repository, names in files.items():
        cached = tmp_path / f"models--{repository.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text("a" * 40)
        (cached / "snapshots" / ("a" * 40)).mkdir(parents=True)
        for source, name in names.items():
            shutil.copyfile(weights / ARCHITECTURE / source, cached / "snapshots" / ("a" * 40) / name)
    again = load_backbone(find_backbone("clip-base-multi"))
    assert np.array_equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_a_checkpoint_of_another_architecture_names_keys(weights: Path, mini: Clip, tmp_path: Path) -> None:
    inner = tmp_path / ARCHITECTURE
    shutil.copytree(weights / ARCHITECTURE, inner)
    state = {key: value.contiguous() for key, value in mini.network.state_dict().items()}
    save_file(state, inner / f"{TAG}.safetensors")
    with pytest.raises(KeysMismatchError, match=r"must hold weights of xlm-.* Missing: .* and \d+ more\. "):
        load_backbone(find_backbone("clip-base-multi"), weights_folder=tmp_path)


@pytest.fixture
def saved(model: Clip, tmp_path: Path) -> Path:
    save_towers(model, tmp_path / "models")
    return tmp_path / "models"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "{}", '{"model_type": "other"}', "[]"])
def test_a_damaged_file_of_an_artifact_is_refused(saved: Path, name: str, content: str | None) -> None:
    (saved / name).unlink() if content is None else (saved / name).write_text(content)
    with pytest.raises(CorruptedArtifact, match=r"must (hold|be)"):
        load_towers(saved, "x")


def test_code_named_in_a_config_does_not_run(saved: Path, model: Clip, tmp_path: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    foreign = {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "attn_implementation": "owner/kernel"}
    (saved / "config.json").write_text(json.dumps(config | foreign))
    shutil.copyfile(tmp_path / "evil.py", saved / "evil.py")
    assert np.array_equal(load_towers(saved, "x").encode_texts(TEXTS), model.encode_texts(TEXTS))
    assert not (tmp_path / "it-ran").exists()


def test_a_config_with_a_path_is_refused(saved: Path) -> None:
    config = json.loads((saved / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] |= {"timm_model_name": "hf-hub:owner/name"}
    (saved / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptedArtifact, match="must name an architecture. Got a path"):
        load_towers(saved, "x")


@pytest.mark.parametrize("options", [{"clean": "canonicalize"}, {"strip_sep_token": True}])
def test_tokenizers_of_other_architectures(tmp_path: Path, options: dict[str, Any]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "dress", "!", "."]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path)
    text_cfg = {"context_length": 8, "hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": options}
    texts = ["A red  DRESS!!", "", "a [SEP] red.", "red " * 20]
    ours = FileTokenizer(find_text_files({"text_cfg": text_cfg}, [tmp_path])["tokenizer.json"], text_cfg)
    assert torch.equal(ours(texts), HFTokenizer(str(tmp_path), 8, **options)(texts))


def test_clip_mini_needs_only_its_tokenizer(mini_row: Backbone, mini: Clip) -> None:
    assert mini_row.folder is not None
    assert mini.files == {"tokenizer.json": (mini_row.folder / "tokenizer.json").read_text()}


@pytest.mark.parametrize("cleaning", ["eval", ["lower"], None])
def test_a_cleaning_that_open_clip_does_not_have_is_refused(saved: Path, cleaning: Any) -> None:
    config = json.loads((saved / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": cleaning}
    (saved / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptedArtifact, match="cleaning of texts must be one that open_clip has. Got"):
        check_towers(saved)
