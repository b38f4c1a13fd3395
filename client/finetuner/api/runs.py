"""Starts, finds, lists and deletes runs."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..config.callbacks import Callback, callback_config, callback_data, list_callbacks
from ..config.losses import DEFAULT_LOSS, require_scores
from ..config.recipes import DEFAULT_OPTIMIZER, with_recipe
from ..config.run_config import RunConfig, refuse_unsupported
from ..contract import wire
from ..contract.checks import checked_name
from ..contract.several import several
from ..exceptions import AlreadyExists, InvalidInput, RunNotFound
from ..models.backbones import find_backbone
from ..transport.connection import Connection
from .data.fit_data import FitData
from .data.fit_recipe import with_chosen_recipe
from .feedback.fit_marks import with_marks
from .run import Run
from .session import connection
from .start_model import StartModel

if TYPE_CHECKING:
    from ..sources.tables.csv_file import CSVOptions


def fit(
    model: str | os.PathLike[str],
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
    optimizer: str = DEFAULT_OPTIMIZER,
    optimizer_options: Mapping[str, Any] | None = None,
    learning_rate: float | None = None,
    epochs: int = 5,
    batch_size: int | None = None,
    callbacks: Callback | Iterable[Callback] | None = None,
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
    replay_data: Any = None,
    seed: int = 0,
    precision: str = "auto",
    resume_from: str | None = None,
    training_options: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    wait: bool = False,
    on_error: str = "raise",
    columns: Mapping[str, str | Sequence[str]] | None = None,
    cpu: bool | None = None,
    scheduler_step: str | None = None,
    since: float | None = None,
) -> Run:
    """Start a run on the Flow and return it at once, or after its end with `wait=True`.

    All options are checked before anything is sent. `RunConfig` describes them with their ranges.

    Args:
        model: a backbone of `list_models()`, `ARCH::TAG`, `ARCH::CHECKPOINT`, or timm's name of an image model. Or
            the id of an artifact, or a local folder of transformers (CLIPModel, ChineseCLIPModel, SiglipModel),
            open_clip or timm, 'hf-hub:OWNER/NAME' or VISION+TEXT, see `import_artifact`.
        train_data: pairs for a CLIP, labelled images for an image model. A DocumentArray, the name of a dataset, a
            data set of Hugging Face, or files (CSV, jsonl, parquet, COCO, folder, glob, tar, zip). 'feedback' takes the
            marks of searches, as `feedback_data` makes pairs of them; it is refused if a dataset has that name.
        eval_data: given like `train_data`; the data of `val_loss`, a loss after each epoch. Its pairs also score a CLIP
            before and after fine-tuning. Score an image model with an EvaluationCallback. With train_data='feedback',
            None takes the held-out queries of the marks.
        val_split: share of the training images, in [0, 1), held out and used for `val_loss`; with 0, `eval_data` is.
        model_artifact: artifact id or alias to start from, instead of the backbone's pretrained weights.
        run_name: 1 to 128 letters, digits, '.', '_' or '-', new in the experiment; None generates a name.
        description: free text, up to 2,000 characters.
        experiment_name: None is 'default'.
        model_options: for image models: 'pooler' and 'pooler_options'; see `image_model.pooling_of`.
        loss: 'CLIPLoss' or 'SigLIPLoss' for a CLIP; for an image model a loss of pytorch-metric-learning, see
            `MetricConfig`. By default the model decides: CLIPLoss for a CLIP, SigLIPLoss for a SigLIP, else
            TripletMarginLoss.
            `Run.config` has the choice.
        miner: for image models: a miner of pytorch-metric-learning, see `MetricConfig`.
        miner_options: options of the miner.
        optimizer: torch's name: 'Adam', 'AdamW', 'SGD', ...
        optimizer_options: torch's options, and layer_wise_lr_decay; see `optimizer_config.OPTIMIZER_OPTIONS`.
        learning_rate: peak learning rate; None takes the backbone's own, and more with LoRA.
        epochs: passes over the images.
        batch_size: pairs (or labelled images) per step; None takes the backbone's own.
        callbacks: one or several, see `finetuner.callback`; data of an EvaluationCallback is given like `train_data`.
        scheduler: 'constant' (also None), 'constant_with_warmup', 'cosine', 'cosine_with_restarts', 'linear' or
            'polynomial'.
        scheduler_options: num_warmup_steps, num_training_steps (or 'auto'), scheduler_step ('batch' or 'epoch'); see
            `RunConfig.scheduler_options`.
        freeze: for image models: train only the head.
        output_dim: for image models: embedding size of a new head.
        device: 'cuda' falls back to the CPU with a warning in the log if there is no GPU; 'cpu' always uses the CPU.
        num_workers: threads that decode images.
        to_onnx: True adds each tower as ONNX to the artifact, for `get_model(..., is_onnx=True)`; the run fails if its
            embeddings differ from torch's. 'int8', for a CLIP, also adds a copy with int8 weights, for an encoder with
            `precision: int8`; the log reports its loss of recall on `eval_data`, if given.
        csv_options: options for CSV files; `size` and `sampling_rate` for all files, `convert_to_blob` for tables.
        public: not supported; must be False.
        num_items_per_class: for image models: images per label in each batch of the class sampler.
        sampler: 'auto' or 'random'; for image models also 'class', see `MetricConfig`.
        loss_optimizer: for image models: optimizer of a loss's own weights, see `MetricConfig`.
        loss_optimizer_options: options of that optimizer.
        loss_options: options of the loss: label_smoothing and hardness of CLIPLoss, and for short vectors its
            matryoshka_dims and matryoshka_weights, for int8 and binary search its int8_weight, binary_weight and
            binary_codes; logit_bias of SigLIPLoss; score_weights of both for pairs with
            scores ('linear', 'log' or 'constant'); or those of pytorch-metric-learning.
        guard_data: pairs, given like `train_data`, for abilities that a CLIP must keep. The log warns if their recall
            falls.
        replay_data: pairs, given like `train_data`, of what a CLIP can do already: each step trains on some of them
            too, so that it stays. Take other pairs than those of `guard_data`.
        seed: seed of weights, order and crops.
        precision: 'fp32', 'bf16', 'fp16', or 'auto': bf16 on a GPU that supports it, otherwise fp32.
        resume_from: name of a failed or canceled run of the experiment. The new run starts from its last checkpoint and
            must have the same data and settings, except for more epochs without a schedule. `Run.resume` resumes a run
            under its own name.
        training_options: options for memory, speed, LoRA, averaging, freezing, hard negatives and crops; see
            `TrainingOptions`.
        recipe: for a CLIP: 'default', 'keep', 'small-data', 'large-data', 'locked-image' or 'cold-start', see
            `list_recipes`. It fills in optimizer, schedule, learning rate, training options and callbacks that the call
            leaves out; `Run.config` has the result. None chooses one by the model, the number of pairs and of steps,
            unless the call sets an optimizer, a schedule or a learning rate; 'none' takes none.
        wait: return after the run's end, with a progress bar in a terminal.
        on_error: 'raise' lists all bad entries of a file in one error; 'skip' leaves them out with a warning.
        columns: names of the columns of CSV files with a header, jsonl and parquet files, such as
            {'image': 'photo', 'text': 'Beschreibung', 'label': 'item', 'score': 'grade', 'language': 'lang'}.
            The values of 'text' and 'negative' may be lists of columns. None takes well-known names, and logs them.
        cpu: for older scripts: True is device='cpu', False is device='cuda'.
        scheduler_step: for older scripts: the same as in scheduler_options.
        since: with train_data='feedback': only marks of that time or later, in seconds since the epoch.

    Raises:
        InvalidInput: a value is not allowed, or a dataset is empty, or a model's folder holds no model.
        KeysMismatchError: the weights in a model's folder do not fit its config.
        InvalidDocument: a pair lacks a side, or an image cannot be decoded.
        RunFailedError: with `wait=True`: the run failed or was canceled.
        NoSuchModel, DatasetNotFound, AlreadyExists, FlowUnreachable
    """
    refuse_unsupported(public=(public, False))
    if cpu is not None:
        warnings.warn("cpu= is deprecated: use device='cpu' or device='cuda'", DeprecationWarning, stacklevel=2)
        device = "cpu" if cpu else "cuda"
    name, experiment = run_name if run_name is not None else f"run-{secrets.token_hex(4)}", experiment_name or "default"
    checked_name(name, "run_name")
    checked_name(experiment, "experiment_name")
    train_data, eval_data = with_marks(train_data, eval_data, since)
    given, kinds = () if callbacks is None else callbacks, tuple(list_callbacks().values())
    prefix = f"finetuner-dastorage-{experiment}-{name}"
    with (
        StartModel(model, model_artifact) as start,
        FitData(prefix, find_backbone(start.backbone).task, csv_options, on_error, columns) as fit_data,
    ):
        row = find_backbone(start.backbone)
        data = {
            "train_data": fit_data.name("train_data", train_data, "train"),
            "eval_data": "" if eval_data is None else fit_data.name("eval_data", eval_data, "eval"),
            "guard_data": "" if guard_data is None else fit_data.name("guard_data", guard_data, "guard"),
            "replay_data": "" if replay_data is None else fit_data.name("replay_data", replay_data, "replay"),
        }
        tuning = {
            **data,
            "optimizer": optimizer,
            "optimizer_options": optimizer_options,
            "learning_rate": learning_rate,
            "scheduler": scheduler,
            "scheduler_options": _scheduler_options(scheduler_options, scheduler_step),
            "training_options": training_options,
            "callbacks": [
                _callback_entry(number, callback, fit_data)
                for number, callback in enumerate(several("callbacks", given, kinds, "a callback, or several"))
            ],
        }
        config = RunConfig(
            model=start.backbone,
            val_split=val_split,
            model_artifact=start.artifact,
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
            epochs=epochs,
            batch_size=batch_size,
            sampler=sampler,
            device=device,
            num_workers=num_workers,
            to_onnx=to_onnx,
            seed=seed,
            precision=precision,
            resume_from=resume_from or "",
            **with_recipe(recipe, tuning, row),
        )
        fit_data.read()
        if fit_data.has_scores("train_data") is False:
            require_scores(config.loss_options)
        flow = connection()
        _require_new(flow, name, experiment)
        if recipe is None:
            config = with_chosen_recipe(config, tuning, row, lambda: fit_data.count(flow, config.train_data), flow)
        fit_data.foresight.warn(row, config.batch_size or row.batch_size)
        start.push(flow)
        fit_data.push(flow)
    run = Run(flow, flow.call(wire.FIT, config=config.to_dict()))
    if wait:
        run.wait()
    return run


def _scheduler_options(given: Mapping[str, Any] | None, scheduler_step: str | None) -> Mapping[str, Any]:
    """Return the options including `scheduler_step` of older scripts, unless it is the default or None."""
    options = given or {}
    if scheduler_step in (None, options.get("scheduler_step", "batch") if isinstance(options, Mapping) else "batch"):
        return options
    if "scheduler_step" in options:
        raise InvalidInput(
            f"scheduler_step must be the same in scheduler_options. Got {scheduler_step!r} and "
            f"{options['scheduler_step']!r}. Leave one out."
        )
    return {**options, "scheduler_step": scheduler_step}


def _callback_entry(number: int, callback: Callback, fit_data: FitData) -> dict[str, Any]:
    """Return a callback's entry in RunConfig; its data is pushed under a name with the callback's number."""
    names = {
        field: fit_data.name(f"{field} of callback {number}", data, f"{field.removesuffix('_data')}-{number}")
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
    """Return the run of that name.

    Args:
        run_name: name of the run.
        experiment_name: its experiment; None is 'default'.

    Raises:
        RunNotFound: the experiment has no run of that name.
    """
    flow = connection()
    return Run(flow, flow.call(wire.RUNS_GET, name=run_name, experiment=_named_experiment(experiment_name)))


def _named_experiment(name: str | None) -> str:
    """Return the name of an experiment, 'default' for None. An empty name means neither that nor all experiments."""
    return "default" if name is None else checked_name(name, "experiment_name")


def list_runs(experiment_name: str | None = None, page: int = 1, size: int = 50) -> list[Run]:
    """Return one page of the runs, oldest first.

    Args:
        experiment_name: only runs of this experiment; None returns the runs of all experiments.
        page: number of the page, from 1.
        size: runs per page, at least 1.

    Raises:
        InvalidInput: `page` or `size` is below 1.
    """
    return wire.page_of(_all_runs(experiment_name), page, size)


def _all_runs(experiment_name: str | None) -> list[Run]:
    parameters = {} if experiment_name is None else {"experiment": _named_experiment(experiment_name)}
    flow = connection()
    return [Run(flow, description) for description in flow.call(wire.RUNS_LIST, **parameters)]


def delete_run(run_name: str, experiment_name: str | None = None) -> None:
    """Delete a run and its log; its artifact stays.

    Args:
        run_name: name of the run.
        experiment_name: its experiment; None is 'default'.

    Raises:
        RunNotFound: the experiment has no run of that name.
        InvalidInput: the run has not ended.
    """
    connection().call(wire.RUNS_DELETE, name=run_name, experiment=_named_experiment(experiment_name))


def delete_runs(experiment_name: str | None = None) -> None:
    """Delete all runs of an experiment; see `delete_run`.

    Args:
        experiment_name: None deletes the runs of all experiments.

    Raises:
        InvalidInput: a run has not ended. The older runs are deleted.
    """
    for run in _all_runs(experiment_name):
        delete_run(run.name, run.experiment_name)
