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
    """open_clip's name of the architecture. For an image model, timm's name. '' if the artifact alone tells it."""
    pretrained: str
    """A tag of open_clip or timm, or a checkpoint file (.safetensors or .pt). '' with a `folder`, or if only artifacts
    have weights."""
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
    loss: str = ""
    """Default loss of `fit`, where the model was trained with another one than its task's default."""
    folder: Path | None = None
    """An open_clip model folder (config, weights, tokenizer) that ships with the package."""
    licence: str = ""
    """Licence of the weights. '' if unknown."""
    description: str = ""
    """One line for `describe_models`."""
    size_gb: float = 0.0
    """Size of the float32 weights in GB (10^9 bytes). 0 if unknown."""
    languages: str = ""
    """Languages of the captions that the model was trained on. '' for an image model, or if unknown."""
    source: str = ""
    """The repository of the weights on the Hugging Face hub, or 'package'."""
    zero_shot: float = 0.0
    """Published top-1 accuracy on ImageNet without training on it, in [0, 1]. 0 if no figure is known."""
    zero_shot_source: str = ""
    """Source of `zero_shot`."""

    @property
    def in_artifacts(self) -> bool:
        """Whether artifacts alone have weights of this model."""
        return not self.pretrained and self.folder is None


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
