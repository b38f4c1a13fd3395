"""Losses of a CLIP, and the default loss of each task. `metric_config` lists the losses for labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract.checks import choice, number, options
from ..contract.wire import SCORE_TAG
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK
from .matryoshka import MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS, SIZES, WEIGHTS, Matryoshka

CLIP_LOSS, IMAGE_LOSS = "CLIPLoss", "TripletMarginLoss"
SCORE_WEIGHTS = "score_weights"
CONSTANT, LINEAR, LOG = "constant", "linear", "log"
SCORE_CHOICES = (CONSTANT, LINEAR, LOG)
BINARY_WEIGHT, BINARY_CODES, INT8_WEIGHT = "binary_weight", "binary_codes", "int8_weight"
SIGN, TANH = "sign", "tanh"
CODES = {"int8": INT8_WEIGHT, "binary": BINARY_WEIGHT}
"""Code -> option with the weight of the loss over it."""
CODE_WEIGHT = (0.001, 100.0)
CLIP_LOSSES: Mapping[str, Mapping[str, tuple[float, float] | tuple[str, ...]]] = {
    CLIP_LOSS: {
        "label_smoothing": (0.0, 0.99),
        "hardness": (0.0, 100.0),
        SCORE_WEIGHTS: SCORE_CHOICES,
        MATRYOSHKA_DIMS: SIZES,
        MATRYOSHKA_WEIGHTS: WEIGHTS,
        BINARY_WEIGHT: CODE_WEIGHT,
        BINARY_CODES: (SIGN, TANH),
        INT8_WEIGHT: CODE_WEIGHT,
    },
    "SigLIPLoss": {"logit_bias": (-100.0, 100.0), SCORE_WEIGHTS: SCORE_CHOICES},
}
"""Loss -> option -> (lowest, highest) value, of each one in a list; or the names to choose from."""


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
    """Return the options of a loss of a CLIP: numbers as floats, names as they are, sizes from the largest on.

    Args:
        loss: one of `CLIP_LOSSES`.
        given: options by name.
        dim: embedding size of the model; 0 if it is not known yet.

    Raises:
        InvalidInput: an unknown option, a number out of its range, or a name that is not among the choices.
    """
    short = Matryoshka.read(given, dim, supported=loss == CLIP_LOSS)
    rules, checked = CLIP_LOSSES[loss], {}
    for name, value in options("loss_options", given, rules).items():
        label, rule = f"loss_options[{name!r}]", rules[name]
        if name in (MATRYOSHKA_DIMS, MATRYOSHKA_WEIGHTS):
            continue
        if isinstance(rule[0], str):
            names = tuple(map(str, rule))
            choice(label, value, names)
            checked[name] = value
        else:
            checked[name] = number(label, value, *map(float, rule))
    if BINARY_CODES in checked and BINARY_WEIGHT not in checked:
        raise InvalidInput(
            f"loss_options[{BINARY_CODES!r}] needs {BINARY_WEIGHT}. Got {checked[BINARY_CODES]!r} alone. Set both, for "
            f"example {BINARY_WEIGHT}=1, or leave it out."
        )
    return checked | (short.options() if short else {})


def require_scores(options: Mapping[str, Any]) -> None:
    """Check the loss options of a run whose training pairs have no scores.

    Raises:
        InvalidInput: `score_weights` is among them.
    """
    if SCORE_WEIGHTS in options:
        raise InvalidInput(
            f"loss_options[{SCORE_WEIGHTS!r}] is for train_data whose pairs have a score. Got "
            f"{options[SCORE_WEIGHTS]!r} for pairs without scores. Leave it out, or give each pair the tag "
            f"{SCORE_TAG!r}."
        )
