"""Bodies and answers of Finetuner's old API under /api/v1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from finetuner.contract.wire import RunState

from .form import Answer, Form

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
NAME_TEXT = "1 to 128 letters, digits, '.', '_' or '-'"
MAX_TEXT = 2000
MAX_CALLBACKS = 64
MAX_OFFSET = 2**53


class ExperimentForm(Form):
    """A new experiment."""

    name: str = Field("default", regex=NAME, description=f"{NAME_TEXT}; one that exists is returned as it is.")
    description: str | None = Field(
        None, max_length=0, description="Must be empty: experiments have no description here."
    )


class ModelForm(Form):
    """The model to tune."""

    name: str | None = Field(None, max_length=256, description="A backbone, or ARCH::TAG. Optional with `artifact`.")
    artifact: str | None = Field(None, max_length=256, description="Id or alias of the artifact to start from.")
    freeze: bool | None = Field(None, description="Train only the head. For image models.")
    output_dim: int | None = Field(None, ge=1, le=65_536, description="Embedding size of a new head. For image models.")
    options: dict[str, Any] | None = Field(None, description="`pooler` and `pooler_options`. For image models.")
    to_onnx: bool | Literal["int8"] | None = Field(
        None, description="Also export each tower to ONNX; 'int8' adds a copy with int8 weights."
    )


class DataForm(Form):
    """The training and evaluation data."""

    train_data: str = Field(..., regex=NAME, description="Name of a dataset.")
    eval_data: str | None = Field(None, max_length=128, description="Name of a dataset: the data of val_loss.")
    guard_data: str | None = Field(
        None, max_length=128, description="Name of a dataset that measures forgetting, for a CLIP model."
    )
    replay_data: str | None = Field(
        None, max_length=128, description="Name of a dataset of which each step trains on some pairs, for a CLIP model."
    )
    val_split: float | None = Field(
        None, ge=0, le=0.99, description="Share of the training images held out for the validation loss. Default 0."
    )
    evaluate: bool | None = Field(None, description="For older clients. A run with `eval_data` is always evaluated.")
    num_workers: int | None = Field(None, ge=0, le=64, description="Threads that decode images. Default 4.")
    sampler: str | None = Field(None, max_length=64, description="'auto', 'class' or 'random'. Default 'auto'.")
    num_items_per_class: int | None = Field(
        None, ge=1, le=65_536, description="Images per label in a batch of the class sampler. Default 4."
    )


class CallbackForm(Form):
    """A callback of a run."""

    name: str = Field(..., max_length=64, description="Class of `finetuner.callback`, such as EvaluationCallback.")
    options: dict[str, Any] | None = Field(
        None, description="Fields of the class by name. Data is given as the name of a dataset."
    )


class HyperParametersForm(Form):
    """Hyperparameters of the training."""

    optimizer: str | None = Field(None, max_length=64, description="Name of a torch optimizer. Default 'Adam'.")
    optimizer_options: dict[str, Any] | None = Field(
        None, description="Arguments of the optimizer, and layer_wise_lr_decay."
    )
    loss: str | None = Field(
        None,
        max_length=64,
        description="'CLIPLoss' (default) or 'SigLIPLoss' for a CLIP; 'TripletMarginLoss' by default for images.",
    )
    loss_options: dict[str, Any] | None = Field(None, description="Arguments of the loss.")
    loss_optimizer: str | None = Field(None, max_length=64, description="Optimizer for a loss with weights of its own.")
    loss_optimizer_options: dict[str, Any] | None = Field(None, description="Arguments of that optimizer.")
    miner: str | None = Field(None, max_length=64, description="Name of a miner of pytorch-metric-learning.")
    miner_options: dict[str, Any] | None = Field(None, description="Arguments of the miner.")
    scheduler: str | None = Field(None, max_length=64, description="'linear', 'cosine', ... Default constant.")
    scheduler_options: dict[str, Any] | None = Field(
        None, description="num_warmup_steps, num_training_steps, scheduler_step ('batch' or 'epoch')."
    )
    batch_size: int | None = Field(
        None, ge=2, le=65_536, description="Pairs or images per step. Default: the backbone's."
    )
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate. Default: the backbone's.")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the data. Default 5.")


class ConfigForm(Form):
    """The configuration of a run. A missing or null field takes its default."""

    model: ModelForm
    data: DataForm
    callbacks: list[CallbackForm] | None = Field(None, max_items=MAX_CALLBACKS, description="See `finetuner.callback`.")
    hyper_parameters: HyperParametersForm | None = Field(None, description="Hyperparameters of the training.")
    public: bool | None = Field(None, description="Must be false: nothing here is public.")
    run_name: str | None = Field(None, max_length=128, description="Same as the body's `name`.")
    experiment_name: str | None = Field(None, max_length=128, description="Same as the path's experiment.")
    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="Seed of weights, order and crops. Default 0.")
    precision: str | None = Field(None, max_length=16, description="'auto', 'fp32', 'bf16' or 'fp16'.")
    resume_from: str | None = Field(
        None, max_length=128, description="Ended run whose last checkpoint this run resumes."
    )
    training_options: dict[str, Any] | None = Field(None, description="Training options of `finetuner.fit`.")
    recipe: str | None = Field(
        None, max_length=64, description="Recipe of `finetuner.fit`: it fills in what is left out. None without."
    )


class RunForm(Form):
    """A new run."""

    name: str = Field(..., regex=NAME, description=f"New in its experiment: {NAME_TEXT}.")
    config: ConfigForm
    task: Literal["training"] = Field("training", description="The only task.")
    description: str | None = Field(None, max_length=MAX_TEXT, description="Free text.")
    finetuner_version: str | None = Field(None, max_length=64, description="Version of the client; ignored.")
    device: Literal["cpu", "gpu", "cuda"] = Field("gpu", description="'gpu' falls back to the CPU with a warning.")
    cpus: int | None = Field(
        None, ge=0, le=64, description="Threads that decode images, if `num_workers` is not given."
    )
    gpus: int | None = Field(
        None, ge=0, le=64, description="Processes that share each batch, one per GPU. 0 and 1 mean one process."
    )


class Experiment(Answer):
    """A group of runs."""

    name: str = Field(..., description=f"{NAME_TEXT}.")
    status: Literal["ACTIVE"] = Field(..., description="The only value.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    description: str = Field(..., description="Always empty.")


class LegacyRun(Answer):
    """A run."""

    name: str = Field(..., description=f"Unique in its experiment: {NAME_TEXT}.")
    config: dict[str, Any] = Field(..., description="Configuration as in `POST`, with all defaults.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    description: str = Field(..., description="Free text.")
    task: Literal["training"] = Field(..., description="The only value.")
    artifact_id: str = Field(..., description="24 hex characters; published when the run has finished.")


class ExperimentPage(Answer):
    """One page of the experiments, oldest first."""

    items: list[Experiment]
    total: int = Field(..., description="Number of items on all pages.")
    page: int = Field(..., description="Page number, from 1.")
    size: int = Field(..., description="Items per page.")


class RunPage(Answer):
    """One page of the runs, oldest first."""

    items: list[LegacyRun]
    total: int = Field(..., description="Number of items on all pages.")
    page: int = Field(..., description="Page number, from 1.")
    size: int = Field(..., description="Items per page.")


class LegacyRunStatus(Answer):
    """The status of a run."""

    status: RunState
    details: str = Field(..., description="One line of explanation.")


class Scores(Answer):
    """Metrics before and after training, if known."""

    before: dict[str, float] | None = Field(None, description="Name -> value.")
    after: dict[str, float] | None = Field(None, description="Name -> value.")


class ExampleTexts(Answer):
    """Matches of example queries as texts, best first."""

    before: dict[str, list[str]] | None = Field(None, description="Query -> texts, or labels or ids of images.")
    after: dict[str, list[str]] | None = Field(None, description="Query -> texts, or labels or ids of images.")
