"""Conversion between the old API's nested configuration and our flat `RunConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from finetuner.config.recipes import with_recipe
from finetuner.config.run_config import refuse_unsupported
from finetuner.exceptions import InvalidInput
from finetuner.models.backbones import find_backbone

from .run_forms import RunForm

# field of the old API -> field of RunConfig
MODEL = {
    "name": "model", "artifact": "model_artifact", "freeze": "freeze", "output_dim": "output_dim",
    "options": "model_options", "to_onnx": "to_onnx",
}  # fmt: skip
DATA = (
    "train_data", "eval_data", "guard_data", "replay_data", "val_split", "num_workers", "sampler",
    "num_items_per_class",
)  # fmt: skip
HYPER_PARAMETERS = (
    "optimizer", "optimizer_options", "loss", "loss_options", "loss_optimizer", "loss_optimizer_options", "miner",
    "miner_options", "scheduler", "scheduler_options", "batch_size", "learning_rate", "epochs",
)  # fmt: skip
OURS = ("seed", "precision", "resume_from", "training_options")
RECIPE = "recipe"


def run_config(form: RunForm, experiment: str) -> dict[str, Any]:
    """Return the fields of RunConfig that a request sets.

    Args:
        form: the body.
        experiment: name in the path.

    Raises:
        InvalidInput: names that contradict each other, an unsupported setting, a recipe without a backbone, or one that
            an option contradicts.
        NoSuchModel: an unknown model, with a recipe.
    """
    config = form.config
    refuse_unsupported(public=(bool(config.public), False))
    _same("config.run_name", config.run_name, "name", form.name)
    _same("config.experiment_name", config.experiment_name, "the path's experiment", experiment)
    if config.data.evaluate and not config.data.eval_data:
        raise InvalidInput("data.evaluate needs data.eval_data. Got none. Name a dataset, or leave evaluate out.")
    model, hyper_parameters = config.model.dict(), config.hyper_parameters
    values = {ours: model[theirs] for theirs, ours in MODEL.items()}
    values |= {name: getattr(config.data, name) for name in DATA}
    values |= {name: getattr(hyper_parameters, name, None) for name in HYPER_PARAMETERS}
    values |= {name: getattr(config, name) for name in OURS}
    if values["num_workers"] is None:
        values["num_workers"] = form.cpus
    if (form.gpus or 1) > 1:
        values["training_options"] = {"num_processes": form.gpus, **(config.training_options or {})}
    values["callbacks"] = [
        {"name": callback.name, "options": callback.options or {}} for callback in config.callbacks or ()
    ]
    values |= {"run_name": form.name, "experiment_name": experiment, "device": form.device}
    values["description"] = form.description
    given = {name: value for name, value in values.items() if value is not None}
    if config.recipe is None:
        return given
    if "model" not in given:
        raise InvalidInput(
            f"config.recipe needs config.model.name, the backbone of the artifact. Got {config.recipe!r:.80} without "
            f"it. Name it."
        )
    return with_recipe(config.recipe, given, find_backbone(given["model"]))


def _same(field: str, value: str | None, other: str, expected: str) -> None:
    if value not in (None, expected):
        raise InvalidInput(f"{field} must be {other}, {expected!r}. Got {value!r}. Leave it out.")


def described_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's description of a run in the form of the old API."""
    config = run["config"]
    return {
        "name": run["name"],
        "config": {
            "public": False,
            "run_name": run["name"],
            "experiment_name": run["experiment"],
            "model": {theirs: config[ours] for theirs, ours in MODEL.items()},
            "data": {name: config[name] for name in DATA} | {"evaluate": bool(config["eval_data"])},
            "callbacks": config["callbacks"],
            "hyper_parameters": {name: config[name] for name in HYPER_PARAMETERS},
            **{name: config[name] for name in OURS},
            RECIPE: config.get(RECIPE) or None,  # runs of earlier versions have none
        },
        "created_at": iso(run["created_at"]),
        "description": config["description"],
        "task": "training",
        "artifact_id": run["artifact_id"],
    }


def described_experiment(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's description of an experiment in the form of the old API."""
    made = iso(experiment["created_at"])
    return {"name": experiment["name"], "status": experiment["status"], "created_at": made, "description": ""}


def iso(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
