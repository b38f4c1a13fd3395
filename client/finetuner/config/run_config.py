"""What a run is asked to do: one frozen object, checked in the client and again in the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..contract.checks import checked_name, choice, flag, number, options, text, whole
from ..exceptions import InvalidInput
from ..models.backbones import IMAGE_TASK, Backbone, find_backbone
from ..models.image_model import pooling_of
from ..models.model_kinds import towers_of
from .losses import CLIP_LOSSES, DEFAULT_LOSS, DefaultLoss, default_loss
from .metric_config import MEMORY_SIZE, METRIC_LOSSES, MetricConfig
from .optimizer_config import OPTIMIZERS, SCHEDULERS, checked_optimizer_options, checked_scheduler_options
from .run_callbacks import checked_callbacks
from .training_options import TrainingOptions

DEVICES = ("cuda", "gpu", "cpu")
SAMPLERS = ("auto", "random")
NAMES = ("run_name", "experiment_name", "train_data", "eval_data", "guard_data", "model_artifact", "resume_from")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
IMAGE_FIELDS = (
    "model_options", "miner", "miner_options", "num_items_per_class", "loss_optimizer",
    "loss_optimizer_options", "freeze", "output_dim",
)  # fmt: skip


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one run.

    Raises:
        InvalidInput: when made with a value that is not allowed; the message has the field, what is allowed,
            what came, and what to do.
        NoSuchModel: for an unknown backbone.
    """

    model: str
    """A backbone: a row's name, `ARCH::TAG` or `ARCH::CHECKPOINT`."""
    train_data: str
    """Name of a dataset: pairs for a CLIP, labelled images for a model of images."""
    eval_data: str = ""
    """Name of a dataset of pairs that scores a CLIP before and after; '' for none."""
    guard_data: str = ""
    """The same, for what a CLIP must not forget: metrics `guard_...`, and a warning where they fall; '' for none."""
    val_split: float = 0.0
    """Share of the training images, in [0, 1), that is held out for the loss curve of validation."""
    model_artifact: str = ""
    """Artifact id or alias to go on from instead of the backbone's pretrained weights."""
    model_options: Mapping[str, Any] = field(default_factory=dict)
    """For images only: 'pooler' and 'pooler_options', see `image_model.pooling_of`."""
    run_name: str = ""
    """1 to 128 letters, digits, '.', '_' or '-'; '' lets the trainer choose."""
    experiment_name: str = "default"
    """The same form."""
    description: str = ""
    """Free text, up to 2,000 characters."""
    loss: str = DEFAULT_LOSS
    """'CLIPLoss' (symmetric InfoNCE) or 'SigLIPLoss' for a CLIP; for images see `MetricConfig`. The default becomes the
    loss of the model's task, see `losses.default_loss`."""
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    """Of CLIPLoss label_smoothing, of SigLIPLoss logit_bias; for images see `MetricConfig`."""
    miner: str | None = None
    """This and the next four: for images only, see `MetricConfig`."""
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    num_items_per_class: int = 4
    loss_optimizer: str | None = None
    loss_optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    freeze: bool = False
    """For images only: train nothing but the head."""
    output_dim: int | None = None
    """For images only: 1 to 65,536, embedding size of a new head."""
    optimizer: str = "Adam"
    """torch's name of one of `OPTIMIZERS`."""
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """torch's names, for example weight_decay, eps, betas (or beta1 and beta2), momentum, and layer_wise_lr_decay; see
    `optimizer_config`."""
    learning_rate: float | None = None
    """Peak, in (0, 1]; None takes the backbone's own, and with `lora_rank` twice that, at least 2e-5."""
    epochs: int = 5
    """1 to 10,000 passes over the images."""
    batch_size: int | None = None
    """2 to 65,536 pairs a step; None takes the backbone's own, at most the data's size."""
    scheduler: str | None = None
    """'constant', 'constant_with_warmup', 'cosine' (to 10% of the peak), 'cosine_with_restarts', 'linear' or
    'polynomial' (to 0); None is constant."""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    """num_warmup_steps (5% by default), num_training_steps (or 'auto': the run's), scheduler_step, which is their unit:
    'batch' or 'epoch'; num_cycles of 'cosine_with_restarts', power of 'polynomial'."""
    sampler: str = "auto"
    """'auto' or 'random': every image once an epoch in random order; CLIP has no other."""
    device: str = "cuda"
    """'cuda' falls back to the CPU with a warning where there is none; 'cpu' never looks."""
    num_workers: int = 4
    """0 to 64 threads that decode images."""
    to_onnx: bool | str = False
    """Whether the artifact holds each tower as ONNX, too; 'int8': of a CLIP, and once more with int8 weights."""
    seed: int = 0
    """0 to 2**32 - 1, for weights, order and crops."""
    precision: str = "auto"
    """'fp32', 'bf16' or 'fp16' of the forward pass; 'auto' is bf16 on a GPU that has it, fp32 elsewhere."""
    resume_from: str = ""
    """Name of an ended run of the experiment, whose last checkpoint this one goes on from; '' starts at the beginning.
    Everything that decides the weights must be the same in both."""
    training_options: Mapping[str, Any] = field(default_factory=dict)
    """How the run computes, see `TrainingOptions`."""
    callbacks: Sequence[Mapping[str, Any]] = ()
    """Each {'name': ..., 'options': {...}}, see `callback.callback_config`; data by dataset name."""

    def __post_init__(self) -> None:
        row = find_backbone(text("model", self.model))
        for name in NAMES:
            value = text(name, getattr(self, name))
            if value or name in ("train_data", "experiment_name"):
                checked_name(value, name)
        if len(text("description", self.description)) > 2000:
            raise InvalidInput(f"description must be at most 2000 characters. Got {len(self.description)}. Cut it.")
        choice("optimizer", self.optimizer, OPTIMIZERS)
        if isinstance(self.loss, DefaultLoss):
            self._set("loss", default_loss(row.task))
        self._check_task(row)
        choice("device", self.device, DEVICES)
        choice("precision", self.precision, PRECISIONS)
        self._set("training_options", TrainingOptions.read(self.training_options, row).changed())
        if self.to_onnx != "int8":
            flag("to_onnx", self.to_onnx)
        elif row.task == IMAGE_TASK:
            raise InvalidInput(
                f"to_onnx must be True or False for {row.name}. Got 'int8', which leaves convolutions as they are."
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
            self.callbacks, towers_of(row), has_val_split=self.val_split > 0, has_eval_data=bool(self.eval_data)
        )
        self._set("callbacks", entries)
        self.options.check_beside([entry["name"] for entry in entries], freeze=self.freeze)
        self._check_memory(row)

    def _check_memory(self, row: Backbone) -> None:
        size, processes = self.loss_options.get(MEMORY_SIZE, 0), self.options.num_processes
        batch = -(-(self.batch_size or row.batch_size) // processes) * processes  # all get as many
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
                    f"model_options must be empty where model_artifact is set, which has its own. "
                    f"Got {self.model_options}. Leave one out."
                )
            if self.output_dim is not None:
                self._set("output_dim", whole("output_dim", self.output_dim, 1, 65_536))
            for name in ("eval_data", "guard_data"):
                if getattr(self, name):
                    raise InvalidInput(
                        f"{name} must be empty for {row.name}. Got {getattr(self, name)!r}. "
                        f"Score images with an EvaluationCallback."
                    )
            return
        if self.loss in METRIC_LOSSES:
            raise InvalidInput(
                f"loss must be one of {', '.join(CLIP_LOSSES)}. Got {self.loss!r}. That loss is for labelled images: "
                f"leave it out to train {row.name} with {default_loss(row.task)}."
            )
        choice("loss", self.loss, tuple(CLIP_LOSSES))
        ranges = CLIP_LOSSES[self.loss]
        given = options("loss_options", self.loss_options, ranges)
        checked = {name: number(f"loss_options[{name!r}]", value, *ranges[name]) for name, value in given.items()}
        self._set("loss_options", checked)
        choice("sampler", self.sampler, SAMPLERS)
        self._set("num_items_per_class", whole("num_items_per_class", self.num_items_per_class, 1, 65_536))
        for name in IMAGE_FIELDS:
            value = getattr(self, name)
            default = type(self).__dataclass_fields__[name].default
            if value and value != default:
                raise InvalidInput(f"{name} is for models of images. Got {value!r} for {row.name}. Leave it out.")

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
    def options(self) -> TrainingOptions:
        """How the run computes."""
        return TrainingOptions.read(self.training_options, find_backbone(self.model))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds; `from_dict` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Return the checked configuration.

        Args:
            values: by field name; whole numbers may be floats, as they arrive through protobuf.

        Raises:
            InvalidInput: an unknown or missing field, or a value that is not allowed.
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
    """Refuse what the old API takes and we do not support yet.

    Args:
        given: name -> (what came, the default, which is all that is allowed).

    Raises:
        InvalidInput: the first that differs from its default.
    """
    for name, (value, default) in given.items():
        if value != default:
            raise InvalidInput(f"{name} is not supported yet and must be {default!r}. Got {value!r}. Leave it out.")
