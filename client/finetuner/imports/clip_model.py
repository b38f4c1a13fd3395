"""Reads transformers' CLIPModel, ChineseCLIPModel or SiglipModel, or an open_clip folder: the inverse of `exports`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import CorruptedArtifact, InvalidInput
from ..exports.siglip_model import from_siglip
from ..models.clip import Clip
from ..models.clip_files import CONFIG_FILE, OPEN_CLIP_WEIGHTS_FILE, check_stored, load_folder, read_clip_config
from ..models.text.text_towers import IMPORTED_TEXT, TOKENIZER_FILE, find_text_files
from ..models.weights import stored_tensors
from .chinese_clip import from_chinese_clip, is_chinese_clip_folder, read_chinese_clip
from .clip_config import CONFIG_FILE as TRANSFORMERS_CONFIG
from .clip_config import read_clip_model_config, read_preprocessing
from .clip_names import from_transformers
from .clip_tokenizer_files import padded_tokenizer_content, tokenizer_content
from .siglip_config import is_siglip_folder, read_siglip_config

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE, SHARDS = "model.safetensors", "model-*-of-*.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
MAX_SHARDS = 200

Rename = Callable[[Mapping[str, "Tensor"]], dict[str, "Tensor"]]


def read_clip(folder: Path, model_id: str) -> Clip:
    """Return the CLIP in a folder of another library, on the CPU. No code of the folder runs, no pickle is opened.

    Sizes in the config are compared with the headers of the weights before anything is built.

    Args:
        folder: of transformers' CLIPModel, ChineseCLIPModel or SiglipModel (config.json, model.safetensors or its
            shards, tokenizer.json) or of open_clip (open_clip_config.json, open_clip_model.safetensors).
        model_id: of the model.

    Raises:
        InvalidInput: neither, no weights, a pickle alone, another architecture, or a tokenizer that does not fit.
        KeysMismatchError: the weights have other names or shapes than the config.
    """
    if not folder.is_dir():
        raise InvalidInput(f"model must be a folder. Got {str(folder)!r}, which is none. Check the path.")
    try:
        if (folder / CONFIG_FILE).is_file():
            return _read_open_clip(folder, model_id)
        if (folder / TRANSFORMERS_CONFIG).is_file():
            return _read_transformers(folder, model_id)
    except CorruptedArtifact as error:
        raise InvalidInput(f"{folder} must hold a CLIP. {error}") from error
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "no files"
    raise InvalidInput(
        f"model folder must hold config.json of transformers' CLIPModel, or open_clip_config.json. Got {found} in "
        f"{str(folder)!r}. Save the model there: model.save_pretrained(FOLDER)."
    )


def _read_transformers(folder: Path, model_id: str) -> Clip:
    if is_siglip_folder(folder):
        values, weights = read_siglip_config(folder), weights_of(folder)
        preprocess = read_preprocessing(folder, values["vision_cfg"]["image_size"], siglip=True)
        files = {TOKENIZER_FILE: padded_tokenizer_content(folder, values["text_cfg"])}
        return _clip(values, preprocess, files, weights, from_siglip, model_id)
    if is_chinese_clip_folder(folder):
        config, files = read_chinese_clip(folder)
        weights = weights_of(folder)
        preprocess = read_preprocessing(folder, config["vision_cfg"]["image_size"])
        return _clip(config, preprocess, files, weights, from_chinese_clip, model_id)
    config, end = read_clip_model_config(folder)
    weights = weights_of(folder)
    preprocess = read_preprocessing(folder, config["vision_cfg"]["image_size"])
    content = tokenizer_content(folder, config["text_cfg"], end)
    if content:
        config["text_cfg"]["hf_tokenizer_name"] = IMPORTED_TEXT
    files = {TOKENIZER_FILE: content} if content else {}
    return _clip(config, preprocess, files, weights, from_transformers, model_id)


def _read_open_clip(folder: Path, model_id: str) -> Clip:
    values = read_clip_config(folder)
    weights = weights_of(folder)
    files = find_text_files(values["model_cfg"], [folder])
    return _clip(values["model_cfg"], values["preprocess_cfg"], files, weights, dict, model_id)


def weights_of(folder: Path) -> list[Path]:
    """Return the files of the weights in a folder that `read_clip` takes.

    Raises:
        InvalidInput: no weights, or a pickle alone.
    """
    return _weights(folder, OPEN_CLIP_WEIGHTS_FILE if (folder / CONFIG_FILE).is_file() else WEIGHTS_FILE)


def _weights(folder: Path, name: str) -> list[Path]:
    """Return the safetensors files of a folder."""
    if (folder / name).is_file():
        return [folder / name]
    shards = sorted(folder.glob(SHARDS))
    if len(shards) > MAX_SHARDS:
        raise InvalidInput(f"{folder} must hold at most {MAX_SHARDS} files of weights. Got {len(shards)}.")
    if shards and name == WEIGHTS_FILE:
        return shards
    pickles = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
    found = f"{pickles[0]}, which may hold a program and is not opened" if pickles else "no weights"
    raise InvalidInput(
        f"{folder} must hold its weights as {name}. Got {found}. Write them once, where you trust the file: "
        f"AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)."
    )


def _clip(
    config: dict[str, Any],
    preprocess: Mapping[str, Any],
    files: Mapping[str, str],
    weights: Sequence[Path],
    rename: Rename,
    model_id: str,
) -> Clip:
    """Compare the headers of the weights with the config, then build the network and load it."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(prefix="finetuner-") as name:
        folder = Path(name)
        (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": dict(preprocess)}))
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8", newline="")
        expected = f"weights in {weights[0].parent} must fit its config"
        check_stored(folder, rename(stored_tensors(weights)), expected)
        state: dict[str, Tensor] = {}
        for path in weights:
            state |= load_file(path, device="cpu")
        model = load_folder(folder, model_id, load_weights=False)
    loaded = {key: value.float() if value.is_floating_point() else value for key, value in rename(state).items()}
    model.network.load_state_dict(loaded)
    return model
