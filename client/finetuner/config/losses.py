"""Losses of a CLIP, and the default loss of each task. `metric_config` lists the losses for labelled images."""

from __future__ import annotations

from collections.abc import Mapping

from ..models.backbone import IMAGE_TASK

CLIP_LOSS, IMAGE_LOSS = "CLIPLoss", "TripletMarginLoss"
CLIP_LOSSES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    CLIP_LOSS: {"label_smoothing": (0.0, 0.99), "hardness": (0.0, 100.0)},
    "SigLIPLoss": {"logit_bias": (-100.0, 100.0)},
}
"""Loss -> option -> (lowest, highest) value."""


class DefaultLoss(str):
    """The type of `DEFAULT_LOSS`. A name that a caller passes is a plain string, so the two can be told apart."""

    __slots__ = ()


DEFAULT_LOSS = DefaultLoss(IMAGE_LOSS)
"""The default of `loss`. It displays as 'TripletMarginLoss', the default of Finetuner 0.8.1, and means the loss of the
model's task, see `default_loss`. An explicit 'TripletMarginLoss' means that loss only."""


def default_loss(task: str) -> str:
    """Return the loss of a run that names none: TripletMarginLoss for image to image, CLIPLoss for text to image."""
    return IMAGE_LOSS if task == IMAGE_TASK else CLIP_LOSS
