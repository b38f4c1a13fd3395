"""Backbone: the description of one model that users can tune and serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CLIP_TASK, IMAGE_TASK = "text-to-image", "image-to-image"


@dataclass(frozen=True)
class Backbone:
    """One row of the backbone table."""

    name: str
    """The name that users write and read."""
    architecture: str
    """open_clip's name of the architecture. For an image model, timm's name. '' if only artifacts have the model."""
    pretrained: str
    """A tag of open_clip or timm, or a checkpoint file (.safetensors or .pt). '' with a `folder`, or for artifacts."""
    aliases: tuple[str, ...] = ()
    """Other names of this row, from older generations of scripts."""
    task: str = CLIP_TASK
    """CLIP_TASK or IMAGE_TASK."""
    output_dim: int = 0
    """Embedding size. 0 if only the loaded model knows it."""
    learning_rate: float = 1e-6
    """Default peak learning rate, small for a large pretrained model."""
    batch_size: int = 128
    """Default number of pairs per step."""
    folder: Path | None = None
    """An open_clip model folder (config, weights, tokenizer) that ships with the package."""
    licence: str = ""
    """Licence of the weights. '' if unknown."""
    description: str = ""
    """One line for `describe_models`."""

    @property
    def in_artifacts(self) -> bool:
        """Whether artifacts alone have weights of this model."""
        return not self.architecture


def image_backbone(name: str, architecture: str, tag: str, output_dim: int = 0, description: str = "") -> Backbone:
    """Return the row of an image model, with the learning rate of its kind and no licence.

    Args:
        name: the row's.
        architecture: timm's name.
        tag: timm's tag, or a checkpoint file.
        output_dim: embedding size. 0 if only the loaded model knows it.
        description: one line for `describe_models`.
    """
    return Backbone(
        name,
        architecture,
        tag,
        task=IMAGE_TASK,
        output_dim=output_dim,
        learning_rate=1e-4,
        description=description,
    )
