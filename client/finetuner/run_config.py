"""What a run is asked to do: one frozen object, checked in the client and again in the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .backbones import IMAGE_TASK, Backbone, find_backbone
from .checks import choice, flag, number, options, text, whole
from .exceptions import InvalidInput
from .metric_config import MetricConfig
from .model_kinds import towers_of
from .run_callbacks import checked_callbacks
from .workspace import checked_name

LOSSES = ("CLIPLoss",)
OPTIMIZERS = ("Adam", "AdamW")
SCHEDULERS = ("constant", "cosine")
DEVICES = ("cuda", "gpu", "cpu")
SAMPLERS = ("auto", "random")
IMAGE_FIELDS = (
    "loss_options", "miner", "miner_options", "num_items_per_class", "loss_optimizer", "loss_optimizer_options",
    "freeze", "output_dim",
)  # fmt: skip

# name -> (low, high) of each option that an optimizer takes besides its learning rate
OPTIMIZER_OPTIONS = {"weight_decay": (0.0, 10.0), "eps": (1e-12, 1.0), "beta1": (0.0, 0.9999), "beta2": (0.0, 0.99999)}
SCHEDULER_OPTIONS = {"num_warmup_steps": (0, 10**9), "num_training_steps": (1, 10**9)}


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
    """Name of a dataset: pairs for a CLIP, labelled pictures for a model of pictures."""
    eval_data: str = ""
    """Name of a dataset of pairs that scores a CLIP before and after; '' for none."""
    val_split: float = 0.0
    """Share of the training pictures, in [0, 1), that is held out for the loss curve of validation."""
    model_artifact: str = ""
    """Artifact id or alias to go on from instead of the backbone's pretrained weights."""
    run_name: str = ""
    """1 to 128 letters, digits, '.', '_' or '-'; '' lets the trainer choose."""
    experiment_name: str = "default"
    """The same form."""
    description: str = ""
    """Free text, up to 2,000 characters."""
    loss: str = "CLIPLoss"
    """For a CLIP 'CLIPLoss', symmetric InfoNCE (open_clip's ClipLoss); for pictures see `MetricConfig`."""
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    """This and the next five: for pictures only, see `MetricConfig`."""
    miner: str | None = None
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    num_items_per_class: int = 4
    loss_optimizer: str | None = None
    loss_optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    freeze: bool = False
    """For pictures only: train nothing but the head."""
    output_dim: int | None = None
    """For pictures only: 1 to 65,536, embedding size of a new head."""
    optimizer: str = "Adam"
    """'Adam' or 'AdamW' of torch."""
    optimizer_options: Mapping[str, float] = field(default_factory=dict)
    """weight_decay, eps, beta1, beta2."""
    learning_rate: float | None = None
    """Peak, in (0, 1]; None takes the backbone's own."""
    epochs: int = 5
    """1 to 10,000 passes over the pictures."""
    batch_size: int | None = None
    """2 to 65,536 pairs a step; None takes the backbone's own, at most the data's size."""
    scheduler: str | None = None
    """'constant' or 'cosine' (to 10% of the peak); None is constant."""
    scheduler_options: Mapping[str, int] = field(default_factory=dict)
    """num_warmup_steps, num_training_steps (steps)."""
    sampler: str = "auto"
    """'auto' or 'random': every picture once an epoch in random order; CLIP has no other."""
    device: str = "cuda"
    """'cuda' falls back to the CPU with a warning where there is none; 'cpu' never looks."""
    num_workers: int = 4
    """0 to 64 threads that decode pictures."""
    seed: int = 0
    """0 to 2**32 - 1, for weights, order and crops."""
    callbacks: Sequence[Mapping[str, Any]] = ()
    """Each {'name': ..., 'options': {...}}, see `callback.callback_config`; data by dataset name."""

    def __post_init__(self) -> None:
        row = find_backbone(text("model", self.model))
        for name in ("run_name", "experiment_name", "train_data", "eval_data", "model_artifact"):
            value = text(name, getattr(self, name))
            if value or name in ("train_data", "experiment_name"):
                checked_name(value, name)
        if len(text("description", self.description)) > 2000:
            raise InvalidInput(f"description must be at most 2000 characters. Got {len(self.description)}. Cut it.")
        self._check_task(row)
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("device", self.device, DEVICES)
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
        self._set(
            "optimizer_options",
            {
                name: number(f"optimizer_options[{name!r}]", value, *OPTIMIZER_OPTIONS[name])
                for name, value in options("optimizer_options", self.optimizer_options, OPTIMIZER_OPTIONS).items()
            },
        )
        self._set(
            "scheduler_options",
            {
                name: whole(f"scheduler_options[{name!r}]", value, *SCHEDULER_OPTIONS[name])
                for name, value in options("scheduler_options", self.scheduler_options, SCHEDULER_OPTIONS).items()
            },
        )
        entries = checked_callbacks(
            self.callbacks, towers_of(row), has_val_split=self.val_split > 0, has_eval_data=bool(self.eval_data)
        )
        self._set("callbacks", entries)
        if self.scheduler_options and self.scheduler in (None, "constant"):
            raise InvalidInput(
                f"scheduler_options need scheduler='cosine'. Got {self.scheduler!r}. Set it, or leave them out."
            )

    def _check_task(self, row: Backbone) -> None:
        if row.task == IMAGE_TASK:
            _ = self.metric
            flag("freeze", self.freeze)
            if self.output_dim is not None:
                self._set("output_dim", whole("output_dim", self.output_dim, 1, 65_536))
            if self.eval_data:
                raise InvalidInput(
                    f"eval_data must be empty for {row.name}. Got {self.eval_data!r}. "
                    f"Score pictures with an EvaluationCallback."
                )
            return
        choice("loss", self.loss, LOSSES)
        choice("sampler", self.sampler, SAMPLERS)
        self._set("num_items_per_class", whole("num_items_per_class", self.num_items_per_class, 1, 65_536))
        for name in IMAGE_FIELDS:
            value = getattr(self, name)
            default = type(self).__dataclass_fields__[name].default
            if value and value != default:
                raise InvalidInput(f"{name} is for models of pictures. Got {value!r} for {row.name}. Leave it out.")

    @property
    def metric(self) -> MetricConfig:
        """Loss, miner and sampler of a run on labelled pictures."""
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
