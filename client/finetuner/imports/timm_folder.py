"""Reads an image model that timm saved: config.json and model.safetensors, as `timm.models.save_for_hf` writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract.checks import number, whole
from ..exceptions import CorruptedArtifact, InvalidInput
from ..models.backbone import image_backbone
from ..models.backbones import image_architectures
from ..models.clip_files import MAX_SIDE
from ..models.image_model import ImageModel, ImagePreprocess
from ..models.image_weights import load_image_backbone
from ..models.rows import IMPORTED_IMAGE
from .clip_config import CONFIG_FILE, read_object
from .clip_model import WEIGHTS_FILE, weights_of

OPEN_CLIP = "open_clip_config.json"
INTERPOLATIONS = ("bicubic", "bilinear")


def is_timm_folder(folder: Path) -> bool:
    """Return whether a folder holds a model of timm: its config names an architecture, and no model_type.

    Raises:
        InvalidInput: a config.json that is none.
    """
    if (folder / OPEN_CLIP).is_file() or not (folder / CONFIG_FILE).is_file():
        return False
    values = read_object(folder / CONFIG_FILE)
    return "architecture" in values and "model_type" not in values


def read_timm(folder: Path) -> ImageModel:
    """Return the image model in a folder of timm, on the CPU, without its classifier. No pickle is opened.

    Its embeddings are the average of the feature map, as for every image model of the backbone table.

    Args:
        folder: see `is_timm_folder`.

    Raises:
        InvalidInput: an architecture that timm does not list or that has arguments of its own, no safetensors, or
            images that are prepared in another way.
        KeysMismatchError: the weights do not fit the architecture.
    """
    values = read_object(folder / CONFIG_FILE)
    architecture = values["architecture"]
    if not isinstance(architecture, str) or architecture not in image_architectures():
        raise InvalidInput(
            f"architecture in {folder / CONFIG_FILE} must be one that timm lists. Got {architecture!r:.80}. See "
            f"timm.list_models()."
        )
    if not _is_plain(values.get("model_args") or {}):
        raise InvalidInput(
            f"{folder / CONFIG_FILE} must have no model_args but those of a classifier: our artifacts hold the "
            f"architecture's name. Got "
            f"{values['model_args']!r:.80}. Take a model of the plain architecture."
        )
    preprocess = _preprocess(folder, values.get("pretrained_cfg"))
    files = weights_of(folder)
    if files != [folder / WEIGHTS_FILE]:
        raise InvalidInput(f"{folder} must hold its weights as one {WEIGHTS_FILE}. Got {len(files)} parts. Join them.")
    name = f"{IMPORTED_IMAGE}::{architecture}"
    try:
        model = load_image_backbone(image_backbone(name, architecture, str(files[0].absolute())))
    except CorruptedArtifact as error:
        raise InvalidInput(f"{folder} must hold a model of timm. {error}") from error
    return ImageModel(model.network, replace(model.config, preprocess=preprocess), name, model.towers[0])


def _is_plain(arguments: Any) -> bool:
    """Return whether the arguments of an architecture change nothing but its classifier."""
    allowed = {"num_classes": int, "in_chans": int, "global_pool": str}
    return (
        isinstance(arguments, dict)
        and all(isinstance(value, allowed.get(name, ())) for name, value in arguments.items())
        and arguments.get("in_chans", 3) == 3
    )


def _preprocess(folder: Path, given: Any) -> ImagePreprocess:
    try:
        if not isinstance(given, dict):
            raise InvalidInput("it must have a pretrained_cfg.")
        channels, height, width = given["input_size"]
        if channels != 3 or height != width:
            raise InvalidInput(f"input_size must be three colours of a square. Got {given['input_size']!r:.40}.")
        if given.get("interpolation") not in INTERPOLATIONS or given.get("crop_mode", "center") != "center":
            raise InvalidInput(
                f"images must be resized bicubic or bilinear, and cropped in the center. Got "
                f"{given.get('interpolation')!r:.40} and {given.get('crop_mode')!r:.40}."
            )
        mean, std = (
            tuple(number(name, one, low, 1) for one in given[name]) for name, low in (("mean", 0), ("std", 1e-6))
        )
        if len(mean) != 3 or len(std) != 3:
            raise InvalidInput("mean and std must be three numbers each.")
        crop = number("crop_pct", given.get("crop_pct", 0.875), 0.1, 1)
        return ImagePreprocess(whole("input_size", height, 1, MAX_SIDE), mean, std, given["interpolation"], crop)
    except (KeyError, TypeError, ValueError, InvalidInput) as error:
        reason = f"It has no {error}." if isinstance(error, KeyError) else str(error)
        raise InvalidInput(f"{folder / CONFIG_FILE} must say how images are prepared. {reason}") from error
