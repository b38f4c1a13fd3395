"""The recipe of a run whose call names none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ...config.recipe_choice import Choice, choose_recipe, early_choice
from ...config.recipes import with_recipe
from ...config.run_config import RunConfig
from ...contract import wire
from ...exceptions import InvalidInput
from ...models.backbone import IMAGE_TASK, Backbone
from ...transport.connection import Connection


def with_chosen_recipe(
    config: RunConfig, given: Mapping[str, Any], row: Backbone, pairs: Callable[[], int | None], flow: Connection
) -> RunConfig:
    """Return the configuration with the options of the chosen recipe, its name and the reason.

    A run that resumes takes the recipe of the earlier run, whose settings it must have.

    Args:
        config: without a recipe.
        given: as of `recipes.with_recipe`.
        row: of the backbone.
        pairs: counts the training data; None if there is none of that name.
        flow: has the run to resume from.
    """
    if row.task == IMAGE_TASK:
        return config
    choice = _resumed(config, flow) if config.resume_from else early_choice(given, row)
    if choice is None:
        count = pairs()
        if count is None:
            return config
        choice = choose_recipe(row, count, config.batch_size, config.epochs, config.val_split)
    if choice.recipe is None:
        return replace(config, recipe_choice=choice.reason)
    try:
        return replace(config, **with_recipe(choice.recipe, given, row), recipe_choice=choice.reason)
    except InvalidInput as error:  # an option contradicts it, so the option wins
        reason = f"{choice.recipe} would be chosen, since {choice.reason}, but: {error}"
        return replace(config, recipe_choice=reason if len(reason) <= 500 else reason[:497] + "...")


def _resumed(config: RunConfig, flow: Connection) -> Choice:
    earlier = flow.call(wire.RUNS_GET, name=config.resume_from, experiment=config.experiment_name)
    return Choice(earlier["config"].get("recipe") or None, f"as of the run {config.resume_from}, which it resumes")
