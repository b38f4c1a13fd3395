"""Losses of a CLIP, and the default loss of each task. `metric_config` lists the losses for labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract.checks import number, options
from ..models.backbone import IMAGE_TASK
from .matryoshka import MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS, SIZES, WEIGHTS, Matryoshka

CLIP_LOSS, IMAGE_LOSS = "CLIPLoss", "TripletMarginLoss"
CLIP_LOSSES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    CLIP_LOSS: {"label_smoothing": (0.0, 0.99), MATRYOSHKA_DIMS: SIZES, MATRYOSHKA_WEIGHTS: WEIGHTS},
    "SigLIPLoss": {"logit_bias": (-100.0, 100.0)},
}
"""Loss -> option -> (lowest, highest) value; of each one in a list."""


class DefaultLoss(str):
    """The type of `DEFAULT_LOSS`. A name that a caller passes is a plain string, so the two can be told apart."""

    __slots__ = ()


DEFAULT_LOSS = DefaultLoss(IMAGE_LOSS)
"""The default of `loss`. It displays as 'TripletMarginLoss', the default of Finetuner 0.8.1, and means the loss of the
model's task, see `default_loss`. An explicit 'TripletMarginLoss' means that loss only."""


def default_loss(task: str) -> str:
    """Return the loss of a run that names none: TripletMarginLoss for image to image, CLIPLoss for text to image."""
    return IMAGE_LOSS if task == IMAGE_TASK else CLIP_LOSS


def checked_loss_options(loss: str, given: object, dim: int = 0) -> dict[str, Any]:
    """Return the options of a loss of a CLIP: numbers as floats, sizes from the largest to the smallest.

    Args:
        loss: one of `CLIP_LOSSES`.
        given: options by name.
        dim: embedding size of the model; 0 if it is not known yet.

    Raises:
        InvalidInput: an unknown option, or a value that is not allowed.
    """
    short = Matryoshka.read(given, dim, supported=loss == CLIP_LOSS)
    rules, checked = CLIP_LOSSES[loss], {}
    for name, value in options("loss_options", given, rules).items():
        if name not in (MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS):
            checked[name] = number(f"loss_options[{name!r}]", value, *rules[name])
    return checked | (short.options() if short else {})
