"""Runs from the user's side: start one, find it again, forget it."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..config.callbacks import Callback, callback_config, callback_data
from ..config.losses import DEFAULT_LOSS
from ..config.run_config import RunConfig, refuse_unsupported
from ..contract import wire
from ..contract.checks import checked_name
from ..exceptions import AlreadyExists, InvalidInput, RunNotFound
from ..models.backbones import find_backbone, list_models
from ..transport.connection import Connection
from .fit_data import FitData
from .run import Run
from .session import connection

if TYPE_CHECKING:
    from ..sources.csv_file import CSVOptions


def fit(
    model: str,
    train_data: Any,
    eval_data: Any = None,
    val_split: float = 0.0,
    model_artifact: str | None = None,
    run_name: str | None = None,
    description: str | None = None,
    experiment_name: str | None = None,
    model_options: Mapping[str, Any] | None = None,
    loss: str = DEFAULT_LOSS,
    miner: str | None = None,
    miner_options: Mapping[str, Any] | None = None,
    optimizer: str = "Adam",
    optimizer_options: Mapping[str, Any] | None = None,
    learning_rate: float | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    callbacks: Sequence[Callback] | None = None,
    scheduler: str | None = None,
    scheduler_options: Mapping[str, Any] | None = None,
    freeze: bool = False,
    output_dim: int | None = None,
    device: str = "cuda",
    num_workers: int = 4,
    to_onnx: bool | str = False,
    csv_options: CSVOptions | None = None,
    public: bool = False,
    num_items_per_class: int = 4,
    sampler: str = "auto",
    loss_optimizer: str | None = None,
    loss_optimizer_options: Mapping[str, Any] | None = None,
    *,
    loss_options: Mapping[str, Any] | None = None,
    guard_data: Any = None,
    seed: int = 0,
    precision: str = "auto",
    resume_from: str | None = None,
    training_options: Mapping[str, Any] | None = None,
    wait: bool = False,
    on_error: str = "raise",
    cpu: bool | None = None,
    scheduler_step: str | None = None,
) -> Run:
    """Start a run; it trains on the Flow, and this call returns at once unless `wait` is set.

    Args:
        model: a backbone, see `list_models()`, or `ARCH::TAG`.
        train_data: pairs: a DocumentArray, the name of a dataset, or files (CSV, folder, glob, parquet, tar shards).
        eval_data: the same; the model is scored on it before and after.
        val_split: share of the training images, in [0, 1), held out for a validation loss each epoch.
        model_artifact: artifact id or alias to go on from.
        run_name: 1 to 128 letters, digits, '.', '_' or '-', new in the experiment; chosen where None.
        description: free text.
        experiment_name: 'default' where None.
        loss: 'CLIPLoss' or 'SigLIPLoss' for a CLIP; for images one of pytorch-metric-learning's. Where it is left out,
            the model's task decides: CLIPLoss for a CLIP, TripletMarginLoss for images. `Run.config` has the choice.
        optimizer: torch's name: 'Adam', 'AdamW', 'SGD', ...
        optimizer_options: torch's, and layer_wise_lr_decay; see `optimizer_config.OPTIMIZER_OPTIONS`.
        learning_rate: peak; the backbone's own where None.
        epochs: passes over the images.
        batch_size: pairs a step; the backbone's own where None.
        scheduler: 'constant' (also None), 'constant_with_warmup', 'cosine', 'cosine_with_restarts', 'linear' or
            'polynomial'.
        scheduler_options: num_warmup_steps, num_training_steps (or 'auto'), scheduler_step ('batch' or 'epoch'); see
            `RunConfig.scheduler_options`.
        device: 'cuda' falls back to the CPU with a warning in the log; 'cpu'.
        num_workers: threads that decode images.
        to_onnx: write each tower as ONNX, too, for `get_model(..., is_onnx=True)`; the run fails where that differs.
            'int8': of a CLIP, and once more with int8 weights, for an encoder's `precision: int8`; what that costs, in
            recall on `eval_data` where there is any, is in the run's log.
        sampler: 'auto' or 'random'.
        guard_data: as eval_data, of what a CLIP can do and must not forget; the log warns where it did.
        seed: of weights, order and crops.
        precision: 'fp32', 'bf16', 'fp16', or 'auto': bf16 on a GPU that has it, fp32 elsewhere.
        resume_from: name of a run of the experiment that failed or was canceled, to go on from its last checkpoint in
            a new run; `Run.resume` goes on in the same one.
        training_options: memory, speed, LoRA, averaging, freezing, crops: see `training_options.TrainingOptions`.
        callbacks: see `finetuner.callback`; an EvaluationCallback's data may be what `train_data` may be.
        csv_options: how CSV files are read.
        on_error: 'raise' names every bad entry of a file; 'skip' leaves them out with a warning.
        wait: return when the run has ended, with a progress bar in a terminal; raises where it failed.
        cpu: of older scripts; True is device='cpu', False is device='cuda'.
        scheduler_step: of older scripts; the same as in scheduler_options.
        loss_options, miner, miner_options, num_items_per_class, loss_optimizer, loss_optimizer_options, freeze,
        output_dim: for models of images, see `metric_config.MetricConfig`; refused for a CLIP.
        model_options, public, precision, resume_from: not supported yet; anything but the default is refused.

    Raises:
        InvalidInput: a wrong value, an empty dataset.
        InvalidDocument: a pair with a missing side or an undecodable image.
        NoSuchModel, DatasetNotFound, AlreadyExists, FlowUnreachable
    """
    refuse_unsupported(
        public=(public, False),
    )
    if cpu is not None:
        warnings.warn("cpu= is deprecated: use device='cpu' or device='cuda'", DeprecationWarning, stacklevel=2)
        device = "cpu" if cpu else "cuda"
    name, experiment = run_name if run_name is not None else f"run-{secrets.token_hex(4)}", experiment_name or "default"
    checked_name(name, "run_name")
    prefix = f"finetuner-dastorage-{experiment}-{name}"
    with FitData(prefix, find_backbone(model).task, csv_options, on_error) as given:
        config = RunConfig(
            model=model,
            train_data=given.name("train_data", train_data, "train"),
            eval_data="" if eval_data is None else given.name("eval_data", eval_data, "eval"),
            guard_data="" if guard_data is None else given.name("guard_data", guard_data, "guard"),
            val_split=val_split,
            model_artifact=model_artifact or "",
            model_options=model_options or {},
            run_name=name,
            experiment_name=experiment,
            description=description or "",
            loss=loss,
            loss_options=loss_options or {},
            miner=miner,
            miner_options=miner_options or {},
            num_items_per_class=num_items_per_class,
            loss_optimizer=loss_optimizer,
            loss_optimizer_options=loss_optimizer_options or {},
            freeze=freeze,
            output_dim=output_dim,
            optimizer=optimizer,
            optimizer_options=optimizer_options or {},
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            scheduler=scheduler,
            scheduler_options=_scheduler_options(scheduler_options, scheduler_step),
            sampler=sampler,
            device=device,
            num_workers=num_workers,
            to_onnx=to_onnx,
            seed=seed,
            precision=precision,
            resume_from=resume_from or "",
            training_options=training_options or {},
            callbacks=[_described(number, callback, given) for number, callback in enumerate(callbacks or ())],
        )
        given.read()
        flow = connection()
        _require_new(flow, name, experiment)
        given.push(flow)
    run = Run(flow, flow.call(wire.FIT, config=config.to_dict()))
    if wait:
        run.wait()
    return run


create_run = fit  # older name
create_training_run = fit  # older name


def _scheduler_options(given: Mapping[str, Any] | None, scheduler_step: str | None) -> Mapping[str, Any]:
    """Return the options with older scripts' own argument among them; its default says nothing."""
    options = given or {}
    if scheduler_step in (None, options.get("scheduler_step", "batch") if isinstance(options, Mapping) else "batch"):
        return options
    if "scheduler_step" in options:
        raise InvalidInput(
            f"scheduler_step must be the same in scheduler_options. Got {scheduler_step!r} and "
            f"{options['scheduler_step']!r}. Leave one out."
        )
    return {**options, "scheduler_step": scheduler_step}


def _described(number: int, callback: Callback, given: FitData) -> dict[str, Any]:
    names = {
        field: given.name(f"{field} of callback {number}", data, f"{field.removesuffix('_data')}-{number}")
        for field, data in callback_data(callback).items()
    }
    return callback_config(callback, names)


def _require_new(flow: Connection, name: str, experiment: str) -> None:
    try:
        flow.call(wire.RUNS_GET, name=name, experiment=experiment)
    except RunNotFound:
        return
    raise AlreadyExists(
        f"run_name must be new in experiment {experiment!r}. Got {name!r}, which exists. Choose another name."
    )


def get_run(run_name: str, experiment_name: str | None = None) -> Run:
    """Return a run.

    Raises:
        RunNotFound: none of that name.
    """
    flow = connection()
    return Run(flow, flow.call(wire.RUNS_GET, name=run_name, experiment=experiment_name or "default"))


def list_runs(experiment_name: str | None = None, page: int = 1, size: int = 50) -> list[Run]:
    """Return one page of the runs of an experiment, or of all, oldest first.

    Args:
        experiment_name: all experiments where None.
        page: from 1.
        size: runs a page, from 1.

    Raises:
        InvalidInput: a page or size below 1.
    """
    return wire.page_of(_all_runs(experiment_name), page, size)


def _all_runs(experiment_name: str | None) -> list[Run]:
    flow = connection()
    parameters = {} if experiment_name is None else {"experiment": experiment_name}
    return [Run(flow, description) for description in flow.call(wire.RUNS_LIST, **parameters)]


def delete_run(run_name: str, experiment_name: str | None = None) -> None:
    """Forget a run that has ended.

    Raises:
        RunNotFound, InvalidInput
    """
    connection().call(wire.RUNS_DELETE, name=run_name, experiment=experiment_name or "default")


def delete_runs(experiment_name: str | None = None) -> None:
    """Forget every run of an experiment, or of all.

    Raises:
        InvalidInput: one of them has not ended; those before it are forgotten.
    """
    for run in _all_runs(experiment_name):
        delete_run(run.name, run.experiment_name)


def synthesize(*_: Any, **__: Any) -> NoReturn:
    """Refuse: generating training data from texts is outside of what this project is for.

    Raises:
        InvalidInput: always.
    """
    raise InvalidInput(
        "synthesize makes data for text backbones, which this project does not train. "
        f"It tunes {', '.join(list_models())} and ARCH::TAG on text-image pairs: use finetuner.fit."
    )


create_synthesis_run = synthesize  # older name
