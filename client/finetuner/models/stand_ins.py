"""Stand-ins for models, for tests alone.

Tests cannot download large models. They set $FINETUNER_STAND_INS to 'NAME=MODEL,...', and each NAME then loads MODEL.
Without that variable this module changes no name and adds no row. Production never sets it.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ..contract.environment import STAND_INS
from .backbone import Backbone, image_backbone

RANDOM = "random"
"""In place of a tag: random weights of RANDOM_SEED, which need no file."""
RANDOM_SEED = 0

ROWS = (
    replace(
        image_backbone("resnet-mini-random", "test_resnet", RANDOM, 96, "For tests only"), aliases=("test_resnet",)
    ),
)


def stand_in(name: str) -> str:
    """Return the model that stands in for `name`, or `name` itself."""
    entries = os.environ.get(STAND_INS, "").split(",")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry).get(name, name)


def stand_in_rows() -> tuple[Backbone, ...]:
    """Return ROWS if $FINETUNER_STAND_INS is set, else no row."""
    return ROWS if os.environ.get(STAND_INS) else ()
