"""Freezes parts of a CLIP."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence

from torch import nn

from finetuner.config.training_options import PROJECTION_PART, SCALE_PART, TEXT_PART, VISION_PART
from finetuner.exceptions import InvalidInput

from .hook import Hook, Progress

SCALE = ("logit_scale", "logit_bias")
VISION = "visual."
PROJECTIONS = (
    "visual.proj", "visual.head.", "visual.attnpool.c_proj.", "text_projection", "text.text_projection", "text.proj",
)  # fmt: skip
"""Prefixes of the layers that map either tower's output to the common embedding, by open_clip's names."""

log = logging.getLogger("finetuner")


class Freeze(Hook):
    """Freezes parameters. The scale of the logits belongs to neither tower.

    Args:
        frozen: 'text', 'vision', or prefixes of parameter names.
    """

    def __init__(self, frozen: Sequence[str]) -> None:
        self._frozen = frozen

    def before_training(self, progress: Progress) -> None:
        """Freeze the parameters.

        Raises:
            InvalidInput: no parameter has one of the prefixes, or only the scale would be trained.
        """
        network = progress.model.network
        names = [name for name, _ in network.named_parameters()]
        for part in self._frozen:
            found = [name for name in names if _is_part(name, part)]
            if not found:
                raise InvalidInput(_unknown(part, names))
            for name in found:
                network.get_parameter(name).requires_grad = False
        trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        if not set(trained) - set(SCALE):
            raise InvalidInput(
                f"frozen must leave something to train. Got {list(self._frozen)}, which is all. Shorten it."
            )
        keep_statistics(network)
        log.info("Frozen: %s; %d of %d tensors are trained", ", ".join(self._frozen), len(trained), len(names))


def keep_statistics(network: nn.Module) -> None:
    """Keep the running statistics of batch norms with frozen weights, and use them in training too."""
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm and own and not any(parameter.requires_grad for parameter in own):
            module.register_forward_pre_hook(_evaluate)


def _evaluate(module: nn.Module, _: object) -> None:
    module.eval()


def part_of(name: str, parts: Sequence[str]) -> str:
    """Return the part of a CLIP that a parameter belongs to, '' if it is none of `parts`.

    Args:
        name: of the parameter.
        parts: of `training_options.PARTS`. A projection belongs to its tower, unless they name the projections.
    """
    if name.startswith(SCALE):
        found = SCALE_PART
    elif PROJECTION_PART in parts and name.startswith(PROJECTIONS):
        found = PROJECTION_PART
    else:
        found = VISION_PART if name.startswith(VISION) else TEXT_PART
    return found if found in parts else ""


def require_parts(network: nn.Module, parts: Sequence[str]) -> None:
    """Check that each part of a CLIP has a parameter that is trained.

    Raises:
        InvalidInput: names the first part without one.
    """
    trained = {part_of(name, parts) for name, value in network.named_parameters() if value.requires_grad}
    for part in parts:
        if part not in trained:
            raise InvalidInput(
                f"learning_rates must name parts that are trained. Got {part!r}, of which this model trains nothing. "
                f"Leave it out, or freeze less."
            )


def _is_part(name: str, part: str) -> bool:
    if part == VISION_PART:
        return name.startswith(VISION)
    if part == TEXT_PART:
        return not name.startswith((VISION, *SCALE))
    return name.startswith(part)


def _unknown(part: str, names: Sequence[str]) -> str:
    pieces = [name.split(".") for name in names]
    prefixes = dict.fromkeys(".".join(piece[:depth]) for piece in pieces for depth in range(1, len(piece) + 1))
    nearest = difflib.get_close_matches(part, [TEXT_PART, VISION_PART, *prefixes], n=3, cutoff=0)
    return (
        f"frozen must hold '{TEXT_PART}', '{VISION_PART}' or prefixes of parameter names. Got {part!r}, which no name "
        f"has. The nearest are {', '.join(nearest)}."
    )
