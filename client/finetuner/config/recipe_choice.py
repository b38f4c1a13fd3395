"""The choice of a recipe by the model, the size of the data and the number of steps, where `fit` is given none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..models.backbone import IMAGE_TASK, Backbone
from ..models.rows import PARTS
from .optimizer_config import OPTIMIZERS
from .recipes import OPTIONS, DefaultOptimizer, is_small
from .training_options import VISION_PART

FEW_PAIRS, MANY_PAIRS = 2_000, 100_000
"""Bounds of the recipes small-data and large-data."""
FEW_STEPS = 160
"""Up to here a constant rate was better than a cosine: 0.060 to 0.044 R@5 at 150 steps on real images, clip-mini. With
188 steps on the catalogue the recipe was better, 0.709 to 0.679 (tests/benchmarks/RESULTS.md)."""
DECIDING = ("optimizer_options", "learning_rate", "scheduler", "scheduler_options")
"""Arguments of `fit` that say how to optimize. A call with one of them, or with an optimizer, is taken at its word."""


@dataclass(frozen=True)
class Choice:
    """A recipe, and why."""

    recipe: str | None
    """Name of a recipe; None for none."""
    reason: str
    """One clause, without a full stop."""


def early_choice(given: Mapping[str, Any], row: Backbone) -> Choice | None:
    """Return the choice that needs no look at the data, None if the data decides.

    Args:
        given: as of `recipes.with_recipe`.
        row: of the backbone.
    """
    if row.task == IMAGE_TASK:
        return Choice(None, "recipes are for a CLIP")
    named = [name for name in DECIDING if given.get(name) not in (None, {})]
    if type(given.get("optimizer")) is not DefaultOptimizer and given.get("optimizer") in OPTIMIZERS:
        named.insert(0, "optimizer")
    if named:
        return Choice(None, f"the call sets {', '.join(named)}")
    if row.name == PARTS.name:
        return Choice("cold-start", "the model is joined from two towers")
    if given.get("replay_data"):
        return Choice("keep", "replay_data says what must stay")
    options = given.get(OPTIONS)
    if isinstance(options, Mapping) and list(options.get("frozen") or ()) == [VISION_PART]:
        return Choice("locked-image", "the vision tower is frozen")
    return None


def choose_recipe(row: Backbone, pairs: int, batch_size: int | None, epochs: int, val_split: float = 0.0) -> Choice:
    """Return the recipe for a model and a number of pairs, where `early_choice` returns None.

    Args:
        row: of the backbone, a CLIP.
        pairs: of the training data.
        batch_size: of the run; None takes the backbone's own.
        epochs: of the run.
        val_split: share of the data that is held out.
    """
    trained = round(pairs * (1 - val_split))
    steps = epochs * -(-trained // (batch_size or row.batch_size))
    size = f"{trained} pairs make {steps} steps"
    if trained <= FEW_PAIRS and not is_small(row):
        return Choice("small-data", f"{trained} pairs are at most {FEW_PAIRS}, and the model is a large pretrained one")
    if trained > MANY_PAIRS:
        return Choice("large-data", f"{trained} pairs are more than {MANY_PAIRS}")
    if steps <= FEW_STEPS:
        return Choice(None, f"{size}, and up to {FEW_STEPS} steps a constant learning rate is better")
    return Choice("default", f"{size}, more than {FEW_STEPS}")
