"""The configuration of a run: one frozen object, checked in the client and again in the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..contract.checks import checked_name, choice, flag, number, text, whole
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK, Backbone
from ..models.backbones import find_backbone
from ..models.image_model import pooling_of
from ..models.model_kinds import towers_of
from .losses import CLIP_LOSSES, CODES, DEFAULT_LOSS, DefaultLoss, checked_loss_options, default_loss
from .matryoshka import Matryoshka
from .metric_config import MEMORY_SIZE, METRIC_LOSSES, MetricConfig
from .optimizer_config import OPTIMIZERS, SCHEDULERS, checked_optimizer_options, checked_scheduler_options
from .recipes import check_recipe
from .run_callbacks import checked_callbacks
from .training_options import TrainingOptions

DEVICES = ("cuda", "gpu", "cpu")
SAMPLERS = ("auto", "random")
NAME_FIELDS = (
    "run_name",
    "experiment_name",
    "train_data",
    "eval_data",
    "guard_data",
    "replay_data",
    "model_artifact",
    "resume_from",
)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
IMAGE_FIELDS = (
    "model_options", "miner", "miner_options", "num_items_per_class", "loss_optimizer",
    "loss_optimizer_options", "freeze", "output_dim",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one run.

    Raises:
        InvalidInput: a value is not allowed. The message names the field, the allowed values, the value that came, and
            the next step.
        NoSuchModel: the backbone is unknown.
    """

    model: str
    """The backbone: the name of a row in `backbones`, `ARCH::TAG` or `ARCH::CHECKPOINT`."""
    train_data: str
    """Name of a dataset: pairs for a CLIP, labelled images for an image model."""
    eval_data: str = ""
    """Name of a dataset: the data of the validation loss, where `val_split` is 0. Its pairs also score a CLIP before
    and after training. '' for none."""
    guard_data: str = ""
    """Name of a dataset of pairs that a CLIP handles already and must not forget; '' for none. Its metrics are named
    `guard_...`, and the log warns if they fall."""
    replay_data: str = ""
    """Name of a dataset of pairs that a CLIP handles already: each step trains on some of them too, as many as of
    `train_data`, and `distillation` then compares these alone. '' for none."""
    val_split: float = 0.0
    """Share of the training images, in [0, 0.99], that is held out for the validation loss."""
    model_artifact: str = ""
    """Artifact id or alias whose weights the run starts from; '' takes the backbone's pretrained weights."""
    model_options: Mapping[str, Any] = field(default_factory=dict)
    """Image models only: 'pooler' and 'pooler_options', see `image_model.pooling_of`."""
    run_name: str = ""
    """1 to 128 letters, digits, '.', '_' or '-'; '' lets the trainer choose."""
    experiment_name: str = "default"
    """Same form as run_name."""
    description: str = ""
    """Free text, up to 2,000 characters."""
    loss: str = DEFAULT_LOSS
    """'CLIPLoss' (symmetric InfoNCE) or 'SigLIPLoss' for a CLIP; see `MetricConfig` for image models. The default is
    replaced by the loss of the model's task, see `losses.default_loss`."""
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    """CLIPLoss: label_smoothing, hardness; matryoshka_dims and matryoshka_weights, see `Matryoshka`; binary_weight,
    binary_codes ('sign' or 'tanh') and int8_weight, of the loss over codes. SigLIPLoss: logit_bias. Both:
    score_weights, how the scores of pairs become weights: 'linear' (the default of pairs with scores), 'log' or
    'constant'. Image models: see `MetricConfig`."""
    miner: str | None = None
    """This and the next four fields are for image models only, see `MetricConfig`."""
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    num_items_per_class: int = 4
    loss_optimizer: str | None = None
    loss_optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    freeze: bool = False
    """Image models only: train the head and freeze the backbone."""
    output_dim: int | None = None
    """Image models only: embedding size of a new head, 1 to 65,536."""
    optimizer: str = "Adam"
    """One of `OPTIMIZERS`, by torch's name."""
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """Options by torch's names, for example weight_decay, eps, betas (or beta1 and beta2), momentum; and
    layer_wise_lr_decay. See `optimizer_config`."""
    learning_rate: float | None = None
    """Peak learning rate, in (0, 1]. None takes the backbone's own; with `lora_rank` twice that, at least 2e-5."""
    epochs: int = 5
    """Passes over the images, 1 to 10,000."""
    batch_size: int | None = None
    """Pairs or images in a step, 2 to 65,536. None takes the backbone's own, at most the size of the data."""
    scheduler: str | None = None
    """'constant', 'constant_with_warmup', 'cosine' (to 10% of the peak), 'cosine_with_restarts', 'linear' or
    'polynomial' (to 0); None is constant."""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    """num_warmup_steps (5% by default); num_training_steps ('auto': those of the run); scheduler_step, the unit of
    both: 'batch' or 'epoch'; num_cycles of 'cosine_with_restarts'; power of 'polynomial'."""
    sampler: str = "auto"
    """A CLIP has 'auto' and 'random': every image once per epoch in random order. Image models: see `MetricConfig`."""
    device: str = "cuda"
    """'cuda' or 'gpu' falls back to the CPU with a warning if no GPU is available; 'cpu' uses none."""
    num_workers: int = 4
    """Threads that decode images, 0 to 64."""
    to_onnx: bool | str = False
    """True also writes each tower as ONNX into the artifact; 'int8' (CLIP only) adds ONNX files with int8 weights."""
    seed: int = 0
    """Seed of weights, order and crops, 0 to 2**32 - 1."""
    precision: str = "auto"
    """Precision of the forward pass: 'fp32', 'bf16' or 'fp16'. 'auto' is bf16 on GPUs that support it, else fp32."""
    resume_from: str = ""
    """Name of an ended run of the experiment whose last checkpoint this run resumes; '' starts at the beginning. Every
    setting that affects the weights must be the same in both runs."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    """Options for memory, speed and frozen weights, see `TrainingOptions`."""
    recipe: str = ""
    """Name of the recipe that `fit` has filled in these options from, see `recipes`; '' for none."""
    recipe_choice: str = ""
    """Why `fit` has chosen the recipe, or none, up to 500 characters; '' where the call names one."""
    callbacks: Sequence[Mapping[str, Any]] = ()
    """Each {'name': ..., 'options': {...}}, see `callbacks.callback_config`; data is the name of a dataset."""

    def __post_init__(self) -> None:
        row = find_backbone(text("model", self.model))
        if row.in_artifacts and not self.model_artifact:
            raise InvalidInput(
                f"model must have weights of its own without model_artifact. Got {row.name!r}, of which only artifacts "
                f"have weights. Pass the artifact's id, or the folder to import, as model."
            )
        for name in NAME_FIELDS:
            value = text(name, getattr(self, name))
            if value or name in ("train_data", "experiment_name"):
                checked_name(value, name)
        if len(text("description", self.description)) > 2000:
            raise InvalidInput(f"description must be at most 2000 characters. Got {len(self.description)}. Cut it.")
        if len(text("recipe_choice", self.recipe_choice)) > 500:
            raise InvalidInput(f"recipe_choice must be at most 500 characters. Got {len(self.recipe_choice)}. Cut it.")
        choice("optimizer", self.optimizer, OPTIMIZERS)
        if isinstance(self.loss, DefaultLoss):
            self._set("loss", row.loss or default_loss(row.task))
        self._check_task(row)
        choice("device", self.device, DEVICES)
        choice("precision", self.precision, PRECISIONS)
        self._set("training_options", TrainingOptions.read(self.training_options, row).changed())
        if self.to_onnx != "int8":
            flag("to_onnx", self.to_onnx)
        elif row.task == IMAGE_TASK:
            raise InvalidInput(
                f"to_onnx must be True or False for {row.name}. Got 'int8', which does not quantise convolutions. "
                f"Choose True."
            )
        if self.scheduler is not None:
            choice("scheduler", self.scheduler, SCHEDULERS)
        self._set("val_split", number("val_split", self.val_split, 0.0, 0.99))
        self._set("epochs", whole("epochs", self.epochs, 1, 10_000))
        self._set("num_workers", whole("num_workers", self.num_workers, 0, 64))
        self._set("seed", whole("seed", self.seed, 0, 2**32 - 1))
        if self.batch_size is not None:
            self._set("batch_size", whole("batch_size", self.batch_size, 2, 65_536))
        if self.learning_rate is not None:
            self._set("learning_rate", number("learning_rate", self.learning_rate, 1e-12, 1.0))
        self._set("optimizer_options", checked_optimizer_options(self.optimizer, self.optimizer_options))
        self._set("scheduler_options", checked_scheduler_options(self.scheduler, self.scheduler_options))
        entries = checked_callbacks(
            self.callbacks,
            towers_of(row),
            has_validation=self.val_split > 0 or bool(self.eval_data),
            has_eval_data=self.scores_eval_data,
        )
        self._set("callbacks", entries)
        names = [entry["name"] for entry in entries]
        self.options.check_beside(names, freeze=self.freeze)
        self.options.check_length(self.batch_size or row.batch_size, self.epochs)
        if text("recipe", self.recipe):
            check_recipe(self.recipe, self.options, names, row)
        self._check_memory(row)

    def _check_memory(self, row: Backbone) -> None:
        size, processes = self.loss_options.get(MEMORY_SIZE, 0), self.options.num_processes
        batch = -(-(self.batch_size or row.batch_size) // processes) * processes  # every process gets as many images
        if 0 < size < batch:
            raise InvalidInput(
                f"loss_options[{MEMORY_SIZE!r}] must be at least a batch, {batch} images. Got {size}. Raise it."
            )

    def _check_task(self, row: Backbone) -> None:
        if row.task == IMAGE_TASK:
            own = {name: value for name, value in self.metric.loss_optimizer_options.items() if name != "lr"}
            checked_optimizer_options(self.loss_optimizer or self.optimizer, own, "loss_optimizer_options")
            flag("freeze", self.freeze)
            pooling_of(dict(self.model_options))
            if self.model_options and self.model_artifact:
                raise InvalidInput(
                    f"model_options must be empty beside model_artifact, which has its own. "
                    f"Got {self.model_options}. Leave one out."
                )
            if self.output_dim is not None:
                self._set("output_dim", whole("output_dim", self.output_dim, 1, 65_536))
            if self.replay_data:
                raise InvalidInput(
                    f"replay_data must be empty for {row.name}. Got {self.replay_data!r}. It is for a CLIP."
                )
            if self.guard_data:
                raise InvalidInput(
                    f"guard_data must be empty for {row.name}. Got {self.guard_data!r}. "
                    f"Score images with an EvaluationCallback."
                )
            return
        if self.loss in METRIC_LOSSES:
            raise InvalidInput(
                f"loss must be one of {', '.join(CLIP_LOSSES)}. Got {self.loss!r}. That loss is for labelled images: "
                f"leave it out to train {row.name} with {row.loss or default_loss(row.task)}."
            )
        choice("loss", self.loss, tuple(CLIP_LOSSES))
        self._set("loss_options", checked_loss_options(self.loss, self.loss_options, row.output_dim))
        choice("sampler", self.sampler, SAMPLERS)
        self._set("num_items_per_class", whole("num_items_per_class", self.num_items_per_class, 1, 65_536))
        for name in IMAGE_FIELDS:
            value = getattr(self, name)
            default = type(self).__dataclass_fields__[name].default
            if value and value != default:
                raise InvalidInput(f"{name} is for image models. Got {value!r} for {row.name}. Leave it out.")

    @property
    def metric(self) -> MetricConfig:
        """Loss, miner and sampler of a run on labelled images."""
        return MetricConfig(
            self.loss,
            self.loss_options,
            self.miner,
            self.miner_options,
            self.sampler,
            self.num_items_per_class,
            self.loss_optimizer,
            self.loss_optimizer_options,
        )

    @property
    def matryoshka(self) -> Matryoshka | None:
        """The short vectors that the run trains beside the whole ones, None without any."""
        return Matryoshka.read(self.loss_options)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that the run trains beside the vectors: 'int8', 'binary', both or none."""
        return tuple(code for code, name in CODES.items() if name in self.loss_options)

    @property
    def scores_eval_data(self) -> bool:
        """Whether `eval_data` scores the model before and after training, as pairs of a CLIP do."""
        return bool(self.eval_data) and find_backbone(self.model).task != IMAGE_TASK

    @property
    def options(self) -> TrainingOptions:
        """The checked training options."""
        return TrainingOptions.read(self.training_options, find_backbone(self.model))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Return the checked configuration with the given fields.

        Args:
            values: values by field name. Whole numbers may be floats: protobuf has no integers in a Struct.

        Raises:
            InvalidInput: a field is unknown or missing, or a value is not allowed.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput(f"run config must be a mapping of field names to values. Got {values!r}.")
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InvalidInput(f"run config must have fields of {', '.join(known)}. Got {', '.join(unknown)}.")
        for name in ("model", "train_data"):
            if name not in values:
                raise InvalidInput(f"run config must have {name!r}. Got none. Add it.")
        return cls(**values)


def refuse_unsupported(**given: tuple[Any, Any]) -> None:
    """Refuse arguments of Finetuner's API that are not supported yet.

    Args:
        given: name -> (value, default). Only the default is allowed.

    Raises:
        InvalidInput: a value differs from its default. The message names the first one.
    """
    for name, (value, default) in given.items():
        if value != default:
            raise InvalidInput(f"{name} is not supported yet and must be {default!r}. Got {value!r}. Leave it out.")
