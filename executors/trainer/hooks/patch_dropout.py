"""Patch dropout: in training, a vision transformer sees a part of each image's patches (FLIP, arXiv:2212.00794)."""

from __future__ import annotations

import logging
from typing import Any

from open_clip.transformer import PatchDropout, VisionTransformer
from timm.layers.patch_dropout import PatchDropout as TimmPatchDropout
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from finetuner.exceptions import InvalidInput

from .hook import Hook, Progress

log = logging.getLogger("finetuner")


class DropPatches(Hook):
    """Leaves out patches while the network trains. It scores, and is published, with all of them.

    Args:
        share: of an image's patches that is left out, another one in each step, above 0 and below 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._place: tuple[Any, str] | None = None
        self._before: Any = None

    def before_training(self, progress: Progress) -> None:
        """Insert the layer.

        Raises:
            InvalidInput: the vision tower is no plain vision transformer.
        """
        visual: Any = progress.model.network.visual
        trunk = getattr(visual, "trunk", None)
        dropout: nn.Module
        if isinstance(visual, VisionTransformer):
            self._place, dropout = (visual, "patch_dropout"), PatchDropout(self._share)
        elif type(trunk) is TimmVisionTransformer:  # those derived from it use patches by their position
            self._place = (trunk, "patch_drop")
            dropout = TimmPatchDropout(self._share, num_prefix_tokens=trunk.num_prefix_tokens)
        else:
            raise InvalidInput(
                f"patch_dropout needs a vision transformer of open_clip or timm. Got {type(trunk or visual).__name__}. "
                f"Leave it out."
            )
        place, name = self._place
        self._before = getattr(place, name)
        dropout.train(visual.training)
        setattr(place, name, dropout)
        log.info("Patch dropout: a step sees %.0f%% of each image's patches", 100 * (1 - self._share))

    def choose_weights(self, progress: Progress) -> None:
        """Put the layer from before back."""
        if self._place is not None:
            place, name = self._place
            setattr(place, name, self._before)
