"""The configuration of transformers' CLIPModel as open_clip's, with every size checked before anything is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contract.checks import whole
from ..exceptions import CorruptedArtifact, InvalidInput
from ..models.clip_files import MAX_CONTEXT, MAX_EMBEDDING, MAX_SIDE
from ..models.weights import MAX_CONFIG_BYTES, MAX_WHOLE, read_config

CONFIG_FILE = "config.json"
PREPROCESSING_FILES = ("preprocessor_config.json", "processor_config.json")
MODEL_TYPE = "clip"
ACTIVATIONS = ("gelu", "quick_gelu")
EPSILON = 1e-5  # of open_clip's layer norms
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
# defaults of transformers' CLIPTextConfig and CLIPVisionConfig; a config may leave them out
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "text_config": {
        "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": EPSILON,
        "eos_token_id": 49407,
    },
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": EPSILON,
    },
}  # fmt: skip
PROJECTION = 512
HALVES = (0.5, 0.5, 0.5)  # mean and deviation of SigLIP's images


def read_clip_model_config(folder: Path) -> tuple[dict[str, Any], int]:
    """Return open_clip's `model_cfg` of a CLIPModel, and the id of the token that ends a text.

    Args:
        folder: holds config.json.

    Raises:
        InvalidInput: no CLIPModel, a size out of range, or one that open_clip's CLIP does not have.
    """
    values = read_object(folder / CONFIG_FILE)
    kind = values.get("model_type")
    if kind != MODEL_TYPE:
        foreign = " Its architecture is a program beside its weights, which is not run." if "auto_map" in values else ""
        raise InvalidInput(
            f"{folder / CONFIG_FILE} must have the model_type 'clip', transformers' CLIPModel. Got "
            f"{kind!r:.60}.{foreign} Import a CLIPModel, SiglipModel or ChineseCLIPModel, or a folder with "
            f"open_clip_config.json."
        )
    try:
        text, vision = (dict(DEFAULTS[name]) | dict(values.get(name) or {}) for name in DEFAULTS)
        if text["hidden_act"] not in ACTIVATIONS or text["hidden_act"] != vision["hidden_act"]:
            raise InvalidInput(
                f"hidden_act must be one of {', '.join(ACTIVATIONS)}, the same in both towers. Got "
                f"{text['hidden_act']!r:.40} and {vision['hidden_act']!r:.40}."
            )
        _check_equal("layer_norm_eps", text["layer_norm_eps"], EPSILON)
        text_cfg = {
            "context_length": whole("max_position_embeddings", text["max_position_embeddings"], 2, MAX_CONTEXT),
            "vocab_size": whole("vocab_size", text["vocab_size"], 3, MAX_WHOLE),
            **_tower(text),
        }
        config = clip_config(values, vision, text_cfg)
        end = whole("eos_token_id", text["eos_token_id"], 0, text_cfg["vocab_size"] - 1)
    except (InvalidInput, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / CONFIG_FILE} must describe a CLIPModel. {error}") from error
    return config, end


def clip_config(values: Mapping[str, Any], vision: Mapping[str, Any], text_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of a CLIP with the vision transformer of CLIPModel and ChineseCLIPModel.

    Args:
        values: transformers' configuration of the whole model.
        vision: that of its image tower, with all values.
        text_cfg: open_clip's, of the text tower.

    Raises:
        InvalidInput, TypeError, ValueError: a value out of range.
    """
    _check_equal("num_channels", vision["num_channels"], 3)
    _check_equal("layer_norm_eps", vision["layer_norm_eps"], EPSILON)
    if vision["hidden_act"] not in ACTIVATIONS:
        raise InvalidInput(f"hidden_act must be one of {', '.join(ACTIVATIONS)}. Got {vision['hidden_act']!r:.40}.")
    tower = _tower(vision)
    tower["head_width"] = tower["width"] // tower.pop("heads")
    return {
        "embed_dim": whole("projection_dim", values.get("projection_dim", PROJECTION), 1, MAX_EMBEDDING),
        "quick_gelu": vision["hidden_act"] == "quick_gelu",
        "vision_cfg": {
            "image_size": whole("image_size", vision["image_size"], 1, MAX_SIDE),
            "patch_size": whole("patch_size", vision["patch_size"], 1, MAX_SIDE),
            **tower,
        },
        "text_cfg": dict(text_cfg),
    }


def read_preprocessing(folder: Path, size: int, *, siglip: bool = False) -> dict[str, Any]:
    """Return open_clip's `preprocess_cfg` of the folder's image processor; without one, that of OpenAI's CLIP.

    Args:
        folder: may hold one of PREPROCESSING_FILES.
        size: side of the model's images in pixels.
        siglip: takes the defaults of SigLIP's processor: a square, without a crop, mean and deviation 0.5.

    Raises:
        InvalidInput: the images of the processor have another size, or are made in a way that open_clip does not have.
    """
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    file = next((folder / name for name in PREPROCESSING_FILES if (folder / name).is_file()), None)
    values = {} if file is None else read_object(file)
    values = values.get("image_processor") or values
    means, deviations = (HALVES, HALVES) if siglip else (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    mean, std = values.get("image_mean", means), values.get("image_std", deviations)
    crops = (values.get("do_center_crop") is not False and not siglip) or values.get("do_center_crop") is True
    square = {"height": size, "width": size} if siglip else size
    given = values.get("size", square)
    resized, cropped = _sides(given), _sides(values.get("crop_size", size))
    interpolation = INTERPOLATIONS.get(values.get("resample", 3))
    fine = (
        resized == (size, size)
        and (cropped == (size, size) or not crops)
        and (not crops) == _is_squashed(given, crops=crops)
        and interpolation is not None
        and all(values.get(step, True) is True for step in ("do_resize", "do_rescale", "do_normalize"))
        and all(_are_three_numbers(numbers) for numbers in (mean, std))
        and min(std) > 0
    )
    if not fine:
        raise InvalidInput(
            f"{file} must resize the shorter side to {size} pixels and crop, or resize to {size} x {size}, bicubic or "
            f"bilinear, and normalise three colours. Got other steps. Correct them, or remove the file to get those of "
            f"OpenAI's CLIP."
        )
    return {
        "size": [size, size],
        "mode": "RGB",
        "mean": [float(number) for number in mean],
        "std": [float(number) for number in std],
        "interpolation": interpolation,
        "resize_mode": "shortest" if crops else "squash",
        "fill_color": 0,
    }


def read_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file of at most MAX_CONFIG_BYTES.

    Raises:
        InvalidInput: none, too large, or a number that is too high.
    """
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidInput(f"{file} must have at most {MAX_CONFIG_BYTES} bytes. Got {file.stat().st_size}.")
        return read_config(file.read_bytes(), str(file))
    except CorruptedArtifact as error:
        raise InvalidInput(str(error)) from error


def _tower(config: Mapping[str, Any]) -> dict[str, Any]:
    width = whole("hidden_size", config["hidden_size"], 1, MAX_EMBEDDING)
    heads = whole("num_attention_heads", config["num_attention_heads"], 1, width)
    inner = whole("intermediate_size", config["intermediate_size"], 1, MAX_WHOLE)
    if width % heads:
        raise InvalidInput(f"hidden_size must be a multiple of num_attention_heads. Got {width} and {heads}.")
    ratio = inner / width
    if int(width * ratio) != inner:
        ratio = (inner + 0.5) / width  # open_clip rounds down
    layers = whole("num_hidden_layers", config["num_hidden_layers"], 1, 1000)
    return {"width": width, "heads": heads, "layers": layers, "mlp_ratio": ratio}


def _check_equal(name: str, value: object, wanted: float) -> None:
    if value != wanted:
        raise InvalidInput(f"{name} must be {wanted:g}, as in open_clip. Got {value!r:.40}.")


def _sides(size: Any) -> tuple[Any, Any]:
    """Return the height and width of a processor's size: a number, or transformers' object."""
    if isinstance(size, dict):
        both = size.get("shortest_edge")
        return (size.get("height", both), size.get("width", both))
    return (size, size)


def _is_squashed(size: Any, *, crops: bool) -> bool:
    """Return whether a processor changes the ratio of the sides."""
    return isinstance(size, dict) and "height" in size and not crops


def _are_three_numbers(values: Any) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in values)
        and json.dumps(list(values)).find("N") < 0  # neither NaN nor Infinity
    )
