"""Recipes: named sets of options for `fit`, one row each. A recipe fills in what the caller leaves out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract.checks import choice
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK, Backbone
from ..models.rows import PARTS
from .callbacks import WiSEFTCallback, callback_config
from .training_options import PROJECTION_PART, VISION_PART, TrainingOptions

SMALL_MODEL_RATE = 1e-4
"""Backbones whose own learning rate is at least this are small, and learn from scratch or in few steps."""
ALPHA, ALPHAS = 0.8, (0.2, 0.4, 0.6, 0.8)
"""Shares of the tuned weights: the mix without evaluation data, and those that a run compares on evaluation data."""
WISE_FT = WiSEFTCallback.__name__
NO_RECIPE = "none"
"""The value of `fit(recipe=...)` that leaves each option at its own default."""
OPTIONS, RATES = "training_options", "learning_rates"


class DefaultOptimizer(str):
    """The type of `DEFAULT_OPTIMIZER`. A name that a caller passes is a plain string, so the two can be told apart."""

    __slots__ = ()


DEFAULT_OPTIMIZER = DefaultOptimizer("Adam")
"""The default of `fit(optimizer=...)`: Adam, or with a recipe the recipe's."""


@dataclass(frozen=True)
class Recipe:
    """One row: options of a CLIP's run."""

    name: str
    purpose: str
    """One line."""
    source: str
    """Measurements and papers behind the values."""
    optimizer: str = "AdamW"
    optimizer_options: Mapping[str, Any] = field(default_factory=lambda: {"weight_decay": 0.2})
    scheduler: str = "cosine"
    """To 10% of the peak, after 5% of warm-up."""
    rate_factor: float = 1.0
    """The peak learning rate, as a multiple of the backbone's own."""
    small_rate_factor: float = 4.0
    """The same for backbones with a rate from `SMALL_MODEL_RATE`."""
    least_rate: float = 0.0
    """The peak learning rate is at least this."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    essential: str = ""
    """The training option without which a run is not of this recipe; '' for none."""
    wise_ft: bool = False
    """Whether the run publishes a mix with the initial weights, by a WiSEFTCallback."""
    backbone: str = ""
    """Name of the only backbone; '' for every CLIP."""

    def learning_rate(self, row: Backbone) -> float:
        """Return the peak learning rate for a backbone."""
        factor = self.small_rate_factor if is_small(row) else self.rate_factor
        return max(float(f"{factor * row.learning_rate:.6g}"), self.least_rate)  # 1e-06 * 10 is 9.99e-06

    def described(self) -> dict[str, str]:
        """Return the row for the documentation."""
        options = {**self.optimizer_options, **self.training_options}
        return {
            "recipe": f"`{self.name}`",
            "for": self.purpose,
            "options": ", ".join(
                [self.optimizer, self.scheduler, *(f"`{name}={value!r}`" for name, value in options.items())]
                + ([f"`{WISE_FT}`"] if self.wise_ft else [])
            ),
            "learning rate": f"{self.rate_factor:g} x the model's own"
            + ("" if self.backbone else f"; {self.small_rate_factor:g} x for small models")  # its towers are pretrained
            + (f"; at least {self.least_rate:g}" if self.least_rate else ""),
            "source": self.source,
        }


RECIPES = (
    Recipe(
        "default",
        "tuning on one's own pairs, for the best search of them",
        "tests/benchmarks/tuned_quality.py; weight decay of open_clip's trainer",
        training_options={"captions_per_image": 2},
    ),
    Recipe(
        "keep",
        "tuning that keeps what the model could do before",
        "distillation: arXiv:1606.09282; WiSE-FT: arXiv:2109.01903",
        training_options={"captions_per_image": 2, "distillation": 1.0},
        essential="distillation",
        wise_ft=True,
    ),
    Recipe(
        "small-data",
        "up to some 2,000 pairs",
        "LoRA keeps more at equal rates: arXiv:2604.16410; WiSE-FT: arXiv:2109.01903",
        rate_factor=2.0,
        small_rate_factor=2.0,
        least_rate=1e-4,
        training_options={"lora_rank": 8, "distillation": 1.0},
        essential="lora_rank",
        wise_ft=True,
    ),
    Recipe(
        "large-data",
        "more than 100,000 pairs",
        "FLYP's rate of 1e-5: arXiv:2212.00638",
        rate_factor=10.0,
    ),
    Recipe(
        "locked-image",
        "the vision tower stays, so indexed images keep their vectors",
        "LiT: arXiv:2111.07991",
        training_options={"frozen": [VISION_PART]},
        essential="frozen",
    ),
    Recipe(
        "cold-start",
        "a CLIP from two towers, whose projections are new",
        "rates of freeze-align: arXiv:2409.19425",
        rate_factor=0.1,
        training_options={RATES: {PROJECTION_PART: 1e-3}},
        essential=RATES,
        backbone=PARTS.name,
    ),
)
TABLE = [row.described() for row in RECIPES]
_BY_NAME = {row.name: row for row in RECIPES}


def is_small(row: Backbone) -> bool:
    """Return whether a backbone is small: it learns in few steps, at a high rate."""
    return row.learning_rate >= SMALL_MODEL_RATE and row.name != PARTS.name  # whose towers are pretrained


def list_recipes() -> dict[str, Recipe]:
    """Return the recipes of `fit(recipe=...)` by name."""
    return dict(_BY_NAME)


def find_recipe(name: object) -> Recipe:
    """Return a recipe.

    Raises:
        InvalidInput: unknown; the message lists the names.
    """
    choice("recipe", name, tuple(_BY_NAME))
    return _BY_NAME[str(name)]


def with_recipe(name: str | None, given: Mapping[str, Any], row: Backbone) -> dict[str, Any]:
    """Return fields of RunConfig, with those that the caller leaves out filled in by a recipe.

    Args:
        name: of the recipe; None and 'none' change nothing.
        given: fields of RunConfig as the caller passes them: optimizer, optimizer_options, learning_rate, scheduler,
            scheduler_options, training_options, callbacks and eval_data. A field that is absent, None, or
            `DEFAULT_OPTIMIZER` is left out by the caller. The caller's options are kept one by one.
        row: of the backbone.

    Raises:
        InvalidInput: an unknown recipe, or one for another model, or one that an option contradicts.
    """
    fields = {key: value for key, value in given.items() if value is not None or key == "optimizer"}
    if type(fields.get("optimizer")) is DefaultOptimizer:
        fields["optimizer"] = str(fields["optimizer"])
    if name in (None, NO_RECIPE):
        return fields
    recipe = find_recipe(name)
    _check_model(recipe, row)
    if type(given.get("optimizer")) is DefaultOptimizer or "optimizer" not in fields:
        fields["optimizer"] = recipe.optimizer
    if fields["optimizer"] == recipe.optimizer:
        fields["optimizer_options"] = _merged(recipe.optimizer_options, fields.get("optimizer_options", {}))
    fields.setdefault("scheduler", recipe.scheduler)
    own = fields.get(OPTIONS, {})
    fields[OPTIONS] = _merged(recipe.training_options, own)
    _check_options(recipe, own, fields[OPTIONS], row)
    adapts = isinstance(own, Mapping) and own.get("lora_rank") and recipe.essential != "lora_rank"
    if not adapts:  # adapters have a rule of their own for their rate
        fields.setdefault("learning_rate", recipe.learning_rate(row))
    callbacks: Sequence[Any] = fields.get("callbacks", ())
    if recipe.wise_ft and not any(isinstance(entry, Mapping) and entry.get("name") == WISE_FT for entry in callbacks):
        mix = WiSEFTCallback(alphas=ALPHAS) if fields.get("eval_data") else WiSEFTCallback(ALPHA)
        fields["callbacks"] = [*callbacks, callback_config(mix, {})]
    return {**fields, "recipe": recipe.name}


def check_recipe(name: str, options: TrainingOptions, callbacks: Collection[str], row: Backbone) -> None:
    """Check that a run's options are those of the recipe that it names.

    Args:
        name: of the recipe.
        options: of the run.
        callbacks: names of the run's callbacks.
        row: of the run's backbone.

    Raises:
        InvalidInput: an unknown recipe, one for another model, or one whose essential option is missing.
    """
    recipe = find_recipe(name)
    _check_model(recipe, row)
    if recipe.essential:
        value, wanted = getattr(options, recipe.essential), recipe.training_options[recipe.essential]
        held = set(wanted) <= set(value or ()) if isinstance(wanted, list | dict) else bool(value)
        if not held:
            found = list(value) if isinstance(value, tuple) else value
            raise InvalidInput(
                f"recipe {name!r} needs training_options[{recipe.essential!r}], for example {wanted!r}. Got {found!r}. "
                f"Leave the option to the recipe, or choose another recipe."
            )
    if recipe.wise_ft and WISE_FT not in callbacks:
        raise InvalidInput(
            f"recipe {name!r} needs a {WISE_FT}. Got none. Add it, or leave recipe out: `fit` fills both in."
        )


def _check_model(recipe: Recipe, row: Backbone) -> None:
    if row.task == IMAGE_TASK:
        raise InvalidInput(f"recipe must be left out for {row.name}: recipes are for a CLIP. Got {recipe.name!r}.")
    if recipe.backbone and row.name != recipe.backbone:
        raise InvalidInput(
            f"recipe {recipe.name!r} is for a CLIP of two towers, model='VISION+TEXT'. Got {row.name}, whose "
            f"projections are trained. Choose 'default'."
        )


def _check_options(recipe: Recipe, own: object, merged: object, row: Backbone) -> None:
    """Name the recipe in the error if the options contradict each other only together with the recipe's."""
    TrainingOptions.read(own, row)
    try:
        TrainingOptions.read(merged, row)
    except InvalidInput as error:
        raise InvalidInput(
            f"recipe {recipe.name!r} sets {dict(recipe.training_options)}, which training_options contradict. {error}"
        ) from error


def _merged(recipe: Mapping[str, Any], own: Any) -> Any:
    """Return the recipe's options with the caller's in their place. What is no mapping is refused later."""
    if not isinstance(own, Mapping):
        return own
    merged = {key: list(value) if isinstance(value, list) else value for key, value in recipe.items()} | dict(own)
    if isinstance(recipe.get(RATES), Mapping) and isinstance(own.get(RATES), Mapping):
        merged[RATES] = {**recipe[RATES], **own[RATES]}
    return merged
