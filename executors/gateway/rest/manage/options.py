"""The choices of a new run: models, recipes, and every further option with its help."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from finetuner.config.callbacks import list_callbacks
from finetuner.config.described import Described, described
from finetuner.config.losses import DefaultLoss
from finetuner.config.recipes import RECIPES
from finetuner.config.run_config import RunConfig
from finetuner.config.training_options import TrainingOptions
from finetuner.models.rows import ROWS

from ..run_request import DATA, HYPER_PARAMETERS, MODEL, OURS

# Asked for by name in the form, or not to be set there.
APART = {"model", "model_artifact", "train_data", "eval_data", "training_options", "recipe", "callbacks"}
RUN = ("description", "device")
# option -> group in the body of POST /api/v1/experiments/{experiment}/runs
GROUPS = {
    **{ours: ("model", theirs) for theirs, ours in MODEL.items()},
    **{name: ("data", name) for name in DATA},
    **{name: ("hyper_parameters", name) for name in HYPER_PARAMETERS},
    **{name: ("", name) for name in OURS},
    **{name: ("run", name) for name in RUN},
}


@cache
def all_options() -> dict[str, Any]:
    """Return the models, the recipes, and the options in the order of the configuration, ready for JSON."""
    models = [
        {"name": row.name, "task": row.task, "description": row.description, "licence": row.licence}
        for row in ROWS
        if not row.in_artifacts
    ]
    ours = [each for each in described(RunConfig) if each.name in GROUPS and each.name not in APART]
    return {
        "models": models,
        "recipes": [{"name": row.name, "purpose": row.purpose, "backbone": row.backbone} for row in RECIPES],
        "callbacks": sorted(list_callbacks()),
        "options": [
            *(_option(each, *GROUPS[each.name]) for each in ours),
            *(_option(each, "training_options", each.name) for each in described(TrainingOptions)),
        ],
    }


def _option(each: Described, group: str, field: str) -> dict[str, Any]:
    if isinstance(each.default, DefaultLoss):  # that of the model's task
        return _option(replace(each, default=None), group, field)
    default = each.default if isinstance(each.default, int | float | str | type(None)) else _plain(each.default)
    return {
        "name": each.name, "group": group, "field": field, "type": each.type, "default": default, "help": each.help,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a mapping or a sequence as JSON has it."""
    return dict(value) if hasattr(value, "items") else list(value)
