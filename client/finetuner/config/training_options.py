"""How a run computes and what it keeps of the pretrained model, beside `RunConfig`; checked without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..contract.checks import flag, number, options, text, whole
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK, Backbone

TEXT_PART, VISION_PART = "text", "vision"
FOR_PAIRS = ("frozen",)


@dataclass(frozen=True)
class TrainingOptions:
    """`fit(training_options={...})`.

    Raises:
        InvalidInput: when made with a value that is not allowed, or with two that contradict each other.
    """

    micro_batch_size: int | None = None
    """1 to 65,536 pairs that pass the network at once; the gradient is that of the whole batch (GradCache,
    arXiv:2101.06983). None takes what fits into a GPU's memory by measurement, and the whole batch on a CPU."""
    num_processes: int = 1
    """1 to 64 processes that share each batch, one a GPU; the gradient is that of the whole batch."""
    compile: bool = False
    """Compile the network with torch.compile: a slow first step, faster ones after it."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    lora_rank: int | None = None
    """1 to 1,024: train low-rank adapters of this rank (LoRA, arXiv:2106.09685) instead of the weights, and merge
    them when the model is published; the scale of the logits and a new head are trained as they are. None trains
    the weights."""
    lora_alpha: float | None = None
    """1e-6 to 4,096: the adapters are scaled by alpha / rank; None is twice the rank."""
    lora_plus_ratio: float | None = None
    """0.01 to 1,000: how many times the learning rate the matrices of adapters that start at zero learn at (LoRA+,
    arXiv:2402.12354), those of embeddings excepted; None is 16."""
    ema_decay: float | None = None
    """0 to 0.999999: publish the exponential moving average of the weights with this decay a step."""
    frozen: tuple[str, ...] = ()
    """Of a CLIP, what stays as it is: 'text' or 'vision', a whole tower, or the beginning of parameters' names, for
    example 'visual.transformer.resblocks.0.'."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Share of the image's area that a random crop keeps, (low, high) in (0, 1]; (1, 1) never crops."""
    flips: bool = False
    """Mirror every second image, drawn at random: not for captions that say left or right."""

    def __post_init__(self) -> None:
        if self.micro_batch_size is not None:
            self._set("micro_batch_size", whole("micro_batch_size", self.micro_batch_size, 1, 65_536))
        self._set("num_processes", whole("num_processes", self.num_processes, 1, 64))
        for name in ("compile", "gradient_checkpointing", "flips"):
            flag(name, getattr(self, name))
        if self.lora_rank is not None:
            self._set("lora_rank", whole("lora_rank", self.lora_rank, 1, 1024))
        if self.lora_alpha is not None:
            self._set("lora_alpha", number("lora_alpha", self.lora_alpha, 1e-6, 4096))
        if self.lora_plus_ratio is not None:
            self._set("lora_plus_ratio", number("lora_plus_ratio", self.lora_plus_ratio, 0.01, 1000))
        if self.ema_decay is not None:
            self._set("ema_decay", number("ema_decay", self.ema_decay, 0, 0.999999))
        self._set("frozen", tuple(text("frozen", name) for name in _sequence("frozen", self.frozen)))
        if "" in self.frozen:
            raise InvalidInput("frozen must hold beginnings of names. Got '', with which all begin. Leave it out.")
        low, high = (number("crop_scale", share, 0.01, 1) for share in self._two("crop_scale"))
        self._set("crop_scale", (low, high))
        if low > high:
            raise InvalidInput(f"crop_scale must be (low, high). Got ({low:g}, {high:g}). Swap them.")
        for name in ("lora_alpha", "lora_plus_ratio"):
            if (value := getattr(self, name)) is not None and self.lora_rank is None:
                raise InvalidInput(f"{name} needs lora_rank. Got {value:g} alone. Set both, or leave it out.")
        if {TEXT_PART, VISION_PART} <= set(self.frozen):
            raise InvalidInput("frozen must leave a tower to train. Got 'text' and 'vision'. Leave one out.")

    def _two(self, name: str) -> tuple[Any, Any]:
        value = _sequence(name, getattr(self, name))
        if len(value) != 2:
            raise InvalidInput(f"{name} must be two numbers, (low, high). Got {value!r}.")
        return value[0], value[1]

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def read(cls, values: object, row: Backbone) -> TrainingOptions:
        """Return the checked options of a run.

        Args:
            values: by field name.
            row: the run's backbone.

        Raises:
            InvalidInput: an unknown name, a value that is not allowed, or one that the backbone does not take.
        """
        given = options("training_options", values, {entry.name: entry for entry in fields(cls)})
        try:
            checked = cls(**given)
        except InvalidInput as error:
            raise InvalidInput(f"training_options: {error}") from error
        if row.task == IMAGE_TASK:
            for name in FOR_PAIRS:
                if given.get(name):
                    raise InvalidInput(
                        f"training_options: {name} is for a CLIP. Got {given[name]!r} for {row.name}. Use freeze=True."
                    )
        return checked

    def check_beside(self, callbacks: Collection[str], *, freeze: bool) -> None:
        """Refuse options that contradict what else a run is asked for.

        Args:
            callbacks: names of the run's.
            freeze: whether a backbone of images stays as it is.

        Raises:
            InvalidInput: the first contradiction.
        """
        if self.ema_decay is not None and "BestModelCheckpoint" in callbacks:
            raise InvalidInput(
                "ema_decay must be left out beside BestModelCheckpoint. Got both: one publishes an average over all "
                "steps, the other the weights of one epoch. Leave one out."
            )
        if self.lora_rank is not None and freeze:
            raise InvalidInput(
                f"lora_rank must be left out beside freeze=True. Got {self.lora_rank}: a frozen backbone has nothing "
                f"to adapt. Leave one out."
            )

    def changed(self) -> Mapping[str, Any]:
        """Return the fields that differ from their defaults, as JSON holds them."""
        return {
            entry.name: list(value) if isinstance(value := getattr(self, entry.name), tuple) else value
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        }


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise InvalidInput(f"{name} must be a list. Got {value!r}.")
