"""The kinds of models, CLIP and images alone, behind one face: load a row, save, load an artifact's folder.

Everything else takes either; only what differs between the two is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..exceptions import InvalidInput, SelectModelRequired
from .backbones import IMAGE_TASK, Backbone
from .clip import TOWERS, VISION, Clip
from .clip_files import check_weights, load_backbone, load_towers, save_towers
from .image_model import ImageModel
from .image_weights import (
    check_image_weights,
    holds_image_model,
    load_image_backbone,
    load_image_model,
    save_image_model,
    tower_of,
)

Model = Clip | ImageModel


def towers_of(row: Backbone) -> tuple[str, ...]:
    """Return the names of a row's models: both of a CLIP, or the only one of a model of images."""
    return (tower_of(row),) if row.task == IMAGE_TASK else TOWERS


def load_row(
    row: Backbone,
    device: str = "cpu",
    weights_folder: Path | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> Model:
    """Load a row's pretrained model; see `clip.load_backbone` and `image_weights.load_image_backbone`.

    Raises:
        NoSuchModel, KeysMismatchError
        InvalidInput: options that the row does not take.
    """
    if row.task == IMAGE_TASK:
        return load_image_backbone(row, device, weights_folder, model_options)
    if model_options:
        raise InvalidInput(f"model_options must be empty for {row.name}. Got {dict(model_options)}. Leave them out.")
    return load_backbone(row, device, weights_folder)


def check_row_weights(row: Backbone, weights_folder: Path | None = None) -> None:
    """Refuse a row whose weights cannot be had by name or file.

    Raises:
        NoSuchModel: with what was looked at.
    """
    (check_image_weights if row.task == IMAGE_TASK else check_weights)(row, weights_folder)


def save_model(model: Model, folder: Path) -> None:
    """Write a model below `folder`, as an artifact's `models/`."""
    if isinstance(model, ImageModel):
        save_image_model(model, folder)
    else:
        save_towers(model, folder)


def load_model(folder: Path, model_id: str, device: str = "cpu", towers: Sequence[str] = TOWERS) -> Model:
    """Load what `save_model` wrote.

    Args:
        folder: an artifact's `models/`.
        model_id: what is written beside the model's vectors.
        device: torch's name of a device.
        towers: which of a CLIP's; a model of images has one, which stands in for 'clip-vision'.

    Raises:
        CorruptedArtifact, KeysMismatchError
        InvalidInput: a tower that the model does not have.
    """
    if not holds_image_model(folder):
        return load_towers(folder, model_id, device, towers)
    model = load_image_model(folder, model_id, device)
    if not {*model.towers, VISION} & {*towers}:
        raise InvalidInput(f"{model_id} holds {model.towers[0]} only. Got input for {', '.join(towers)}.")
    return model


def selected(select_model: str | None, towers: Sequence[str], what: str) -> str:
    """Return which of a model's towers is meant; the only one needs no naming.

    Args:
        select_model: a tower's name, or None.
        towers: the model's.
        what: the model, for the message.

    Raises:
        SelectModelRequired: none of the towers, or none named where there are several.
    """
    if select_model is None and len(towers) == 1:
        return towers[0]
    if select_model in towers:
        return str(select_model)
    raise SelectModelRequired(f"select_model must be one of {', '.join(towers)} for {what}. Got {select_model!r}.")
