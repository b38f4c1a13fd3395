"""What a run is asked to do: one frozen object, checked in the client and again in the trainer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .backbones import find_backbone
from .exceptions import InvalidInput
from .workspace import checked_name

LOSSES = ("CLIPLoss",)
OPTIMIZERS = ("Adam", "AdamW")
SCHEDULERS = ("constant", "cosine")
DEVICES = ("cuda", "gpu", "cpu")
SAMPLERS = ("auto", "random")

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
    """Name of a dataset of pairs."""
    eval_data: str = ""
    """Name of a dataset of pairs that scores the model before and after; '' for none."""
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
    """Symmetric InfoNCE (open_clip's ClipLoss)."""
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

    def __post_init__(self) -> None:
        find_backbone(_text("model", self.model))
        for name in ("run_name", "experiment_name", "train_data", "eval_data", "model_artifact"):
            value = _text(name, getattr(self, name))
            if value or name in ("train_data", "experiment_name"):
                checked_name(value, name)
        if len(_text("description", self.description)) > 2000:
            raise InvalidInput(f"description must be at most 2000 characters. Got {len(self.description)}. Cut it.")
        _choice("loss", self.loss, LOSSES)
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        _choice("device", self.device, DEVICES)
        _choice("sampler", self.sampler, SAMPLERS)
        if self.scheduler is not None:
            _choice("scheduler", self.scheduler, SCHEDULERS)
        self._set("val_split", _number("val_split", self.val_split, 0.0, 0.99))
        self._set("epochs", _whole("epochs", self.epochs, 1, 10_000))
        self._set("num_workers", _whole("num_workers", self.num_workers, 0, 64))
        self._set("seed", _whole("seed", self.seed, 0, 2**32 - 1))
        if self.batch_size is not None:
            self._set("batch_size", _whole("batch_size", self.batch_size, 2, 65_536))
        if self.learning_rate is not None:
            self._set("learning_rate", _number("learning_rate", self.learning_rate, 1e-12, 1.0))
        self._set(
            "optimizer_options",
            {
                name: _number(f"optimizer_options[{name!r}]", value, *OPTIMIZER_OPTIONS[name])
                for name, value in _options("optimizer_options", self.optimizer_options, OPTIMIZER_OPTIONS).items()
            },
        )
        self._set(
            "scheduler_options",
            {
                name: _whole(f"scheduler_options[{name!r}]", value, *SCHEDULER_OPTIONS[name])
                for name, value in _options("scheduler_options", self.scheduler_options, SCHEDULER_OPTIONS).items()
            },
        )
        if self.scheduler_options and self.scheduler in (None, "constant"):
            raise InvalidInput(
                f"scheduler_options need scheduler='cosine'. Got {self.scheduler!r}. Set it, or leave them out."
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


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise InvalidInput(f"{name} must be a string. Got {value!r}.")


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value in allowed:
        return
    lower = {name.lower(): name for name in allowed}
    nearest = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.4)
    hint = f" Did you mean {lower[nearest[0]]!r}?" if nearest else ""
    raise InvalidInput(f"{name} must be one of {', '.join(allowed)}. Got {value!r}.{hint}")


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nor is NaN
        raise InvalidInput(f"{name} must be a number in [{low}, {high}]. Got {value!r}.")
    return float(value)


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, float) and value.is_integer():  # as whole numbers arrive through protobuf
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{name} must be a whole number in [{low}, {high}]. Got {value!r}.")
    return value


def _options(name: str, value: object, allowed: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a mapping with keys of {', '.join(allowed)}. Got {value!r}.")
    unknown = sorted(set(map(str, value)) - set(allowed))
    if unknown:
        raise InvalidInput(f"{name} must have keys of {', '.join(allowed)}. Got {', '.join(unknown)}. Leave them out.")
    return dict(value)


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
