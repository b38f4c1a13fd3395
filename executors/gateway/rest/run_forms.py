"""Bodies and answers of Finetuner's old API: what a client of /api/v1 sends and gets."""

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
    description: str | None = Field(None, max_length=0, description="Must be empty: an experiment has none here.")


class ModelForm(Form):
    """What is tuned."""

    name: str | None = Field(
        None, max_length=256, description="A backbone, or ARCH::TAG; may be left out where `artifact` is given."
    )
    artifact: str | None = Field(None, max_length=256, description="Artifact id or alias to go on from.")
    freeze: bool | None = Field(None, description="Train nothing but the head; for models of images.")
    output_dim: int | None = Field(
        None, ge=1, le=65_536, description="Size of a new head's embeddings; for models of images."
    )
    options: dict[str, Any] | None = Field(None, description="`pooler` and `pooler_options`; for models of images.")
    to_onnx: bool | Literal["int8"] | None = Field(
        None, description="Write each tower as ONNX, too; 'int8': once more with int8 weights."
    )


class DataForm(Form):
    """What it learns from."""

    train_data: str = Field(..., regex=NAME, description="Name of a dataset.")
    eval_data: str | None = Field(None, max_length=128, description="Name of a dataset that scores a CLIP.")
    guard_data: str | None = Field(
        None, max_length=128, description="Name of a dataset of what a CLIP can do already and must not forget."
    )
    val_split: float | None = Field(
        None, ge=0, le=0.99, description="Share of the training images held out for a validation loss; 0."
    )
    evaluate: bool | None = Field(
        None, description="Older clients' word for scoring on `eval_data`, which is done wherever there is any."
    )
    num_workers: int | None = Field(None, ge=0, le=64, description="Threads that decode images; 4.")
    sampler: str | None = Field(None, max_length=64, description="'auto', 'class' or 'random'; 'auto'.")
    num_items_per_class: int | None = Field(
        None, ge=1, le=65_536, description="Images of a label in a batch of the class sampler; 4."
    )


class CallbackForm(Form):
    """What a run does beside training."""

    name: str = Field(..., max_length=64, description="Class of `finetuner.callback`, such as EvaluationCallback.")
    options: dict[str, Any] | None = Field(None, description="Its fields by name; data by the name of a dataset.")


class HyperParametersForm(Form):
    """How it learns."""

    optimizer: str | None = Field(None, max_length=64, description="torch's name; 'Adam'.")
    optimizer_options: dict[str, Any] | None = Field(None, description="torch's, and layer_wise_lr_decay.")
    loss: str | None = Field(
        None, max_length=64, description="'CLIPLoss' or 'SigLIPLoss' for a CLIP; 'TripletMarginLoss' if left out."
    )
    loss_options: dict[str, Any] | None = Field(None, description="Of the loss.")
    loss_optimizer: str | None = Field(None, max_length=64, description="Of a loss with weights of its own.")
    loss_optimizer_options: dict[str, Any] | None = Field(None, description="Of that optimizer.")
    miner: str | None = Field(None, max_length=64, description="pytorch-metric-learning's name.")
    miner_options: dict[str, Any] | None = Field(None, description="Of the miner.")
    scheduler: str | None = Field(None, max_length=64, description="'linear', 'cosine', ...; constant if left out.")
    scheduler_options: dict[str, Any] | None = Field(
        None, description="num_warmup_steps, num_training_steps, scheduler_step ('batch' or 'epoch')."
    )
    batch_size: int | None = Field(None, ge=2, le=65_536, description="Pairs or images a step; the backbone's own.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak; the backbone's own.")
    epochs: int | None = Field(None, ge=1, le=10_000, description="Passes over the data; 5.")


class ConfigForm(Form):
    """What a run is asked to do; what is left out or null takes its default."""

    model: ModelForm
    data: DataForm
    callbacks: list[CallbackForm] | None = Field(None, max_items=MAX_CALLBACKS, description="See `finetuner.callback`.")
    hyper_parameters: HyperParametersForm | None = Field(None, description="How it learns.")
    public: bool | None = Field(None, description="Must be false: nothing here is for everybody.")
    run_name: str | None = Field(None, max_length=128, description="As the body's `name`.")
    experiment_name: str | None = Field(None, max_length=128, description="As the path's experiment.")
    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="Of weights, order and crops; 0.")
    precision: str | None = Field(None, max_length=16, description="'auto', 'fp32', 'bf16' or 'fp16'.")
    resume_from: str | None = Field(None, max_length=128, description="Ended run to go on from its last checkpoint.")
    training_options: dict[str, Any] | None = Field(None, description="As `finetuner.fit` takes them.")


class RunForm(Form):
    """A new run."""

    name: str = Field(..., regex=NAME, description=f"New in its experiment: {NAME_TEXT}.")
    config: ConfigForm
    task: Literal["training"] = Field("training", description="Nothing else is done here.")
    description: str | None = Field(None, max_length=MAX_TEXT, description="Free text.")
    finetuner_version: str | None = Field(None, max_length=64, description="Of the client; read past.")
    device: Literal["cpu", "gpu", "cuda"] = Field("gpu", description="'gpu' falls back to the CPU with a warning.")
    cpus: int | None = Field(
        None, ge=0, le=64, description="Threads that decode images, where `num_workers` is not given."
    )
    gpus: int | None = Field(
        None, ge=0, le=64, description="Processes that share each batch, one a GPU; 0 and 1 are one process."
    )


class Experiment(Answer):
    """A group of runs."""

    name: str = Field(..., description=f"{NAME_TEXT}.")
    status: Literal["ACTIVE"] = Field(..., description="There is no other.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    description: str = Field(..., description="Empty.")


class Run(Answer):
    """A run."""

    name: str = Field(..., description=f"Unique in its experiment: {NAME_TEXT}.")
    config: dict[str, Any] = Field(..., description="As `POST` takes it, with every default filled in.")
    created_at: str = Field(..., description="ISO 8601, UTC.")
    description: str = Field(..., description="Free text.")
    task: Literal["training"] = Field(..., description="There is no other.")
    artifact_id: str = Field(..., description="24 hex characters; published when the run has finished.")


class ExperimentPage(Answer):
    """One page of the experiments, oldest first."""

    items: list[Experiment]
    total: int = Field(..., description="How many there are on all pages.")
    page: int = Field(..., description="From 1.")
    size: int = Field(..., description="Items a page.")


class RunPage(Answer):
    """One page of the runs, oldest first."""

    items: list[Run]
    total: int = Field(..., description="How many there are on all pages.")
    page: int = Field(..., description="From 1.")
    size: int = Field(..., description="Items a page.")


class RunStatus(Answer):
    """How far a run is."""

    status: RunState
    details: str = Field(..., description="One line for people.")


class Scores(Answer):
    """Metrics before and after training, as far as they are known."""

    before: dict[str, float] | None = Field(None, description="Name -> value.")
    after: dict[str, float] | None = Field(None, description="Name -> value.")


class Match(Answer):
    """What a query found."""

    match: str = Field(..., description="Its text, or its image's label or id.")
    relevant: bool = Field(..., description="Whether it should be found.")
    image: str = Field(..., description="A thumbnail as data URI, '' for a text.")


class Examples(Answer):
    """What example queries found, best first."""

    before: dict[str, list[Match]] | None = Field(None, description="Query -> matches.")
    after: dict[str, list[Match]] | None = Field(None, description="Query -> matches.")
