"""Callbacks of a run: evaluation, checkpoints, early stopping, loggers, WiSE-FT.

`fit(callbacks=[...])` takes them and the trainer runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..contract.checks import checked_name, choice, flag, number, options, text, whole
from ..exceptions import InvalidInput

DISTANCES = ("cosine", "euclidean", "sqeuclidean")
MODES = ("auto", "min", "max")
LOGGER_STEPS = ("epoch", "batch")
WANDB_ARGS = ("project", "name", "entity", "group", "job_type", "notes", "tags", "mode")
WANDB_MODES = ("online", "offline", "disabled")
MLFLOW_ARGS = ("experiment_name", "run_name", "description", "tags")


@dataclass
class EvaluationCallback:
    """Searches an index with queries before training, after each epoch and at the end, and reports retrieval metrics.

    It reports Finetuner's nine metrics and the textbook ones, see `finetuner.metrics`. An index document is relevant
    to a query if they share a `finetuner_label` or an image.

    Raises:
        InvalidInput: a value is not allowed.
    """

    query_data: Any
    """Documents or the name of a dataset: texts, images, or pairs. `model` decides which side of a pair is used."""
    index_data: Any = None
    """Documents or the name of a dataset; None searches `query_data` itself."""
    model: str | None = None
    """Tower for the queries: 'clip-text' (None) or 'clip-vision'. Leave it out for an image model, which has one."""
    index_model: str | None = None
    """Tower for the index. None takes `model`; if that is None too, 'clip-vision'."""
    multi_modal: bool = False
    """True refuses one tower for both sides."""
    batch_size: int = 32
    """Documents in a forward pass, 1 to 65,536."""
    exclude_self: bool = True
    """Remove the document with the query's id from its matches. Matters only if one tower encodes both sides."""
    limit: int = 20
    """k of the metrics, 1 to 1,000."""
    distance: str = "cosine"
    """'cosine', 'euclidean' or 'sqeuclidean'. Embeddings have length 1, so all three give the same ranking."""
    steps_per_interval: int | None = None
    """Number of steps after which to evaluate as well; None evaluates after epochs only."""
    gather_examples: bool = False
    """Keep the matches of example queries before and after training; `Run.example_results` returns them."""
    num_example_queries: int = 5
    """Number of example queries, 1 to 100, from the start of the data."""
    num_workers: int = 8
    """Threads that decode images, 0 to 64."""
    caption: str | None = None
    """Prefix of the metrics' names, 1 to 64 characters; None takes the names of the towers."""
    output_model_names: bool = False
    """Put the names of the towers behind the caption."""
    query_sample_size: int | None = None
    """Number of queries to draw at random, the same ones each time; None takes all."""

    def __post_init__(self) -> None:
        for name in ("model", "index_model"):
            if getattr(self, name) is not None:
                text(name, getattr(self, name))
        for name in ("multi_modal", "exclude_self", "gather_examples", "output_model_names"):
            flag(name, getattr(self, name))
        self.batch_size = whole("batch_size", self.batch_size, 1, 65_536)
        self.limit = whole("limit", self.limit, 1, 1000)
        self.num_example_queries = whole("num_example_queries", self.num_example_queries, 1, 100)
        self.num_workers = whole("num_workers", self.num_workers, 0, 64)
        choice("distance", self.distance, DISTANCES)
        if self.steps_per_interval is not None:
            self.steps_per_interval = whole("steps_per_interval", self.steps_per_interval, 1, 10**9)
        if self.query_sample_size is not None:
            self.query_sample_size = whole("query_sample_size", self.query_sample_size, 1, 10**9)
        if self.caption is not None and not 1 <= len(text("caption", self.caption).strip()) <= 64:
            raise InvalidInput(f"caption must have 1 to 64 characters. Got {self.caption!r}. Choose another one.")


@dataclass
class BestModelCheckpoint:
    """Publishes the weights of the epoch with the best value instead of the last epoch's."""

    monitor: str = "val_loss"
    """'loss' or 'train_loss' (mean of the epoch), 'val_loss' (with `eval_data` or `val_split`), or a metric of
    EvaluationCallback."""
    mode: str = "auto"
    """'min', 'max', or 'auto': min for names that end in 'loss', max for others."""

    def __post_init__(self) -> None:
        text("monitor", self.monitor)
        choice("mode", self.mode, MODES)


@dataclass
class EarlyStopping:
    """Stops training once a value no longer improves."""

    monitor: str = "val_loss"
    """See `BestModelCheckpoint`."""
    mode: str = "auto"
    """See `BestModelCheckpoint`."""
    patience: int = 2
    """Epochs in a row without improvement, 0 to 10,000, after which training stops; 0 stops after the first."""
    min_delta: float = 0
    """A smaller or equal change is no improvement, 0 to 1e9."""
    baseline: float | None = None
    """Value that the first epoch must improve on."""

    def __post_init__(self) -> None:
        text("monitor", self.monitor)
        choice("mode", self.mode, MODES)
        self.patience = whole("patience", self.patience, 0, 10_000)
        self.min_delta = number("min_delta", self.min_delta, 0, 1e9)
        if self.baseline is not None:
            self.baseline = number("baseline", self.baseline, -1e9, 1e9)


@dataclass
class TrainingCheckpoint:
    """Keeps the weights of the last epochs in the run's folder, as safetensors."""

    last_k_epochs: int = 1
    """Number of epochs to keep, 1 to 1,000."""

    def __post_init__(self) -> None:
        self.last_k_epochs = whole("last_k_epochs", self.last_k_epochs, 1, 1000)


@dataclass
class WandBLogger:
    """Logs the run to Weights & Biases: loss, learning rate, pairs/s, val_loss and evaluation metrics.

    The trainer logs online if its environment has WANDB_API_KEY, otherwise offline into the run's folder.

    Raises:
        InvalidInput: a value is not allowed.
    """

    metrics_logger_step: str = "epoch"
    """'epoch' logs once per epoch, 'batch' after each step as well. It is also the unit of the x axis."""
    wandb_args: dict[str, Any] | None = None
    """Arguments of `wandb.init`: project (default: the experiment's name), name (default: the run's name), entity,
    group, job_type, notes, tags, mode ('online', 'offline', 'disabled'). Paths and keys are refused."""
    log_zero_shot: bool = True
    """Log the metrics before training as step 0."""

    def __post_init__(self) -> None:
        choice("metrics_logger_step", self.metrics_logger_step, LOGGER_STEPS)
        flag("log_zero_shot", self.log_zero_shot)
        if self.wandb_args is None:
            return
        for name in {"key", "api_key"} & set(self.wandb_args if isinstance(self.wandb_args, Mapping) else ()):
            raise InvalidInput(
                f"wandb_args must not hold {name!r}, which the run's configuration would store in clear text. Got one. "
                f"Set WANDB_API_KEY in the trainer's environment."
            )
        self.wandb_args = options("wandb_args", self.wandb_args, dict.fromkeys(WANDB_ARGS))
        for name, value in self.wandb_args.items():
            if name == "mode":
                choice("wandb_args['mode']", value, WANDB_MODES)
            elif name == "tags":
                self.wandb_args[name] = _labels("wandb_args['tags']", value)
            else:
                _label(f"wandb_args[{name!r}]", value, 2000 if name == "notes" else 128)


@dataclass
class MLflowLogger:
    """Logs the run to MLflow: to the trainer's MLFLOW_TRACKING_URI if it is set, otherwise into the run's folder.

    Raises:
        InvalidInput: a value is not allowed.
    """

    metrics_logger_step: str = "epoch"
    """See `WandBLogger`, like log_zero_shot."""
    mlflow_args: dict[str, Any] | None = None
    """experiment_name and run_name (default: the run's own), description, tags as {name: text}."""
    log_zero_shot: bool = True

    def __post_init__(self) -> None:
        choice("metrics_logger_step", self.metrics_logger_step, LOGGER_STEPS)
        flag("log_zero_shot", self.log_zero_shot)
        if self.mlflow_args is None:
            return
        self.mlflow_args = options("mlflow_args", self.mlflow_args, dict.fromkeys(MLFLOW_ARGS))
        for name, value in self.mlflow_args.items():
            if name == "tags":
                if not isinstance(value, Mapping):
                    raise InvalidInput(f"mlflow_args['tags'] must be a mapping of names to texts. Got {value!r}.")
                for tag in _labels("mlflow_args['tags']", list(value)):
                    _label(f"mlflow_args['tags'][{checked_name(tag, 'tag')!r}]", value[tag], 2000)
            elif name == "description":
                _label("mlflow_args['description']", value, 2000)
            else:
                checked_name(value, f"mlflow_args[{name!r}]")


@dataclass
class TensorBoardLogger:
    """Logs the run as TensorBoard event files in the run's folder on the trainer.

    Raises:
        InvalidInput: a value is not allowed.
    """

    metrics_logger_step: str = "epoch"
    """See `WandBLogger`, like log_zero_shot."""
    log_zero_shot: bool = True

    def __post_init__(self) -> None:
        choice("metrics_logger_step", self.metrics_logger_step, LOGGER_STEPS)
        flag("log_zero_shot", self.log_zero_shot)


@dataclass
class WiSEFTCallback:
    """Mixes weights after training: (1 - alpha) * pretrained + alpha * tuned (Wortsman et al., arXiv:2109.01903).

    The pretrained weights are those that the run started from.

    Raises:
        InvalidInput: alpha is outside [0, 1], or set together with `alphas`.
    """

    alpha: float = 0.4
    """In [0, 1]: 0 is the pretrained model, 1 the tuned model."""
    alphas: Sequence[float] | None = None
    """1 to 101 values of alpha to compare; 0 and 1 are added. The run scores each on `eval_data` by the mean of R@5 in
    both directions and publishes the best. The log and the artifact's `wise_ft.json` have the whole curve, and its
    `ends/tuned/` the tuned weights. The scores are then optimistic on `eval_data`: test with other pairs. `guard_data`
    is scored for each mix, too: published is the best of those that keep its score within 0.02 of the initial model's,
    and the metrics after training have `guard_area`, the area under both scores' curve."""

    def __post_init__(self) -> None:
        self.alpha = number("alpha", self.alpha, 0, 1)
        if self.alphas is None:
            return
        if not isinstance(self.alphas, list | tuple) or not 1 <= len(self.alphas) <= 101:
            raise InvalidInput(f"alphas must be a list of 1 to 101 numbers in [0, 1]. Got {self.alphas!r}.")
        self.alphas = [number("alphas", alpha, 0, 1) for alpha in self.alphas]
        if self.alpha != type(self).alpha:
            raise InvalidInput(f"alpha must be left out beside alphas. Got {self.alpha:g} and {self.alphas}.")


Logger = WandBLogger | MLflowLogger | TensorBoardLogger
Callback = EvaluationCallback | BestModelCheckpoint | EarlyStopping | TrainingCheckpoint | WiSEFTCallback | Logger
_CALLBACKS: dict[str, type[Callback]] = {
    kind.__name__: kind
    for kind in (
        BestModelCheckpoint,
        EarlyStopping,
        EvaluationCallback,
        MLflowLogger,
        TensorBoardLogger,
        TrainingCheckpoint,
        WandBLogger,
        WiSEFTCallback,
    )
}


def list_callbacks() -> dict[str, type[Callback]]:
    """Return the class of each callback by name."""
    return dict(_CALLBACKS)


def callback_data(callback: Callback) -> dict[str, Any]:
    """Return the fields that hold data: {'query_data': documents or a name, ...}; empty for most callbacks.

    Raises:
        InvalidInput: the argument is no callback.
    """
    _require_callback(callback)
    if not isinstance(callback, EvaluationCallback):
        return {}
    given = {"query_data": callback.query_data, "index_data": callback.index_data}
    return {name: data for name, data in given.items() if data is not None}


def callback_config(callback: Callback, dataset_names: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry of a callback in a RunConfig: {'name': ..., 'options': {...}}, ready for JSON.

    Args:
        callback: an object of one of `list_callbacks()`.
        dataset_names: field of `callback_data` -> name of the dataset that its data was pushed as.

    Raises:
        InvalidInput: the argument is no callback.
    """
    _require_callback(callback)
    values = {entry.name: getattr(callback, entry.name) for entry in fields(callback)}
    return {"name": type(callback).__name__, "options": values | dict(dataset_names)}


def _require_callback(callback: object) -> None:
    if type(callback) not in _CALLBACKS.values():
        raise InvalidInput(f"callbacks must be objects of {', '.join(_CALLBACKS)}. Got {callback!r}.")


def _label(name: str, value: object, length: int) -> str:
    if not 1 <= len(text(name, value).strip()) <= length:
        raise InvalidInput(f"{name} must have 1 to {length} characters. Got {value!r}. Choose another one.")
    return text(name, value)


def _labels(name: str, values: object) -> list[str]:
    if not isinstance(values, list | tuple) or len(values) > 32:
        raise InvalidInput(f"{name} must hold at most 32 texts. Got {values!r}.")
    return [_label(name, value, 64) for value in values]
