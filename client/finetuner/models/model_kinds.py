"""Loads and saves models of either kind, CLIP or image model. This module alone chooses between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput, SelectModelRequired
from .backbone import IMAGE_TASK, Backbone
from .clip import TOWERS, VISION, Clip
from .clip_files import check_towers, check_weights, load_backbone, load_towers, save_towers
from .image_model import ImageModel
from .image_weights import (
    check_image_model,
    check_image_weights,
    holds_image_model,
    load_image_backbone,
    load_image_model,
    save_image_model,
    tower_of,
)

Model = Clip | ImageModel


def towers_of(row: Backbone) -> tuple[str, ...]:
    """Return the names of a row's towers: two for a CLIP, one for an image model."""
    return (tower_of(row),) if row.task == IMAGE_TASK else TOWERS


def load_row(
    row: Backbone,
    device: str = "cpu",
    weights_folder: Path | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a row's pretrained model; see `clip_files.load_backbone` and `image_weights.load_image_backbone`.

    Raises:
        NoSuchModel, KeysMismatchError
        InvalidInput: options for a CLIP, which has none.
    """
    if row.task == IMAGE_TASK:
        return load_image_backbone(row, device, weights_folder, model_options)
    if model_options:
        raise InvalidInput(f"model_options must be empty for {row.name}. Got {dict(model_options)}. Leave them out.")
    return load_backbone(row, device, weights_folder)


def check_row_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Check that a row's weights have a known name or are a file.

    Raises:
        NoSuchModel: neither. The message has the names and paths searched.
    """
    (check_image_weights if row.task == IMAGE_TASK else check_weights)(row, weights_folder)


def save_model(model: Model, folder: Path) -> None:
    """Write a model into `folder`, an artifact's `models/`."""
    if isinstance(model, ImageModel):
        save_image_model(model, folder)
    else:
        save_towers(model, folder)


def load_model(folder: Path, model_id: str, device: str = "cpu", towers: Sequence[str] = TOWERS) -> Model:
    """Load the model that `save_model` wrote.

    Args:
        folder: an artifact's `models/`.
        model_id: artifact id or backbone name, stored beside each vector.
        device: torch's name of a device.
        towers: the towers of a CLIP to load. An image model has one, which also answers to 'clip-vision'.

    Raises:
        CorruptedArtifact, KeysMismatchError
        InvalidInput: the model has none of `towers`.
    """
    if not holds_image_model(folder):
        return load_towers(folder, model_id, device, towers)
    model = load_image_model(folder, model_id, device)
    if not {*model.towers, VISION} & {*towers}:
        raise InvalidInput(
            f"{model_id} holds {model.towers[0]} only. Got input for {', '.join(towers)}. Choose a CLIP."
        )
    return model


def check_model(folder: Path) -> int:
    """Compare the sizes that a model's files state, before any of it is loaded; see `check_towers`.

    Args:
        folder: an artifact's `models/`.

    Returns:
        The embedding size.

    Raises:
        CorruptedArtifact, KeysMismatchError
    """
    return check_image_model(folder) if holds_image_model(folder) else check_towers(folder)


def select_tower(select_model: str | None, towers: Sequence[str], what: str) -> str:
    """Return the selected tower of a model.

    Args:
        select_model: name of a tower. None selects the only one.
        towers: the model's.
        what: description of the model, for the message.

    Raises:
        SelectModelRequired: unknown tower, or None for a model of several towers.
    """
    if select_model is None and len(towers) == 1:
        return towers[0]
    if select_model in towers:
        return str(select_model)
    raise SelectModelRequired(f"select_model must be one of {', '.join(towers)} for {what}. Got {select_model!r}.")
