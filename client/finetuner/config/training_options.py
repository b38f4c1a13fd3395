"""Training options of a run: memory, speed, LoRA, weight averaging, frozen weights, crops; checked without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..contract.checks import choice, flag, number, options, text, whole
from ..exceptions import InvalidInput
from ..models.backbone import IMAGE_TASK, Backbone
from .hard_negatives import HardNegatives
from .near_duplicates import NearDuplicates

TEXT_PART, VISION_PART, SCALE_PART, PROJECTION_PART = "text", "vision", "logit_scale", "projection"
PARTS = (TEXT_PART, VISION_PART, SCALE_PART, PROJECTION_PART)
"""Parts of a CLIP that may have learning rates of their own."""
LEAVE_OUT = "Leave it out."
CLIP_ONLY = {
    "frozen": "Use freeze=True.",
    "captions_per_image": LEAVE_OUT,
    "hard_batches": "Use a miner.",
    "hard_negatives": "Use a miner.",
    "near_duplicates": LEAVE_OUT,
    "patch_dropout": LEAVE_OUT,
    "distillation": LEAVE_OUT,
    "l2_sp": LEAVE_OUT,
    "learning_rates": LEAVE_OUT,
}
"""Option -> the next step for an image model."""
HARD_FROM = 2
LORA, RSLORA, DORA = "lora", "rslora", "dora"
MOST_CAPTIONS = 8


@dataclass(frozen=True)
class TrainingOptions:
    """The options that `fit(training_options={...})` takes.

    Raises:
        InvalidInput: a value is not allowed, or two options contradict each other.
    """

    micro_batch_size: int | None = None
    """Pairs in one forward pass, 1 to 65,536. The gradient is that of the whole batch (GradCache, arXiv:2101.06983).
    None measures the number that fits into a GPU's memory; on a CPU it takes the whole batch."""
    num_processes: int = 1
    """Processes that share each batch, 1 to 64, one per GPU. The gradient is that of the whole batch."""
    compile: bool = False
    """Compile the network with torch.compile: the first step is slow, later steps are faster."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora_rank: int | None = None
    """Rank of LoRA adapters, 1 to 1,024 (arXiv:2106.09685). The run trains the adapters instead of the weights and
    merges them when it publishes the model. The logit scale and a new head are still trained directly. None trains
    the weights."""
    lora_alpha: float | None = None
    """The adapters are scaled by lora_alpha / lora_rank, 1e-6 to 4,096; None is twice the rank. See lora_kind."""
    lora_kind: str = "lora"
    """'lora'; 'rslora', scaled by lora_alpha / sqrt(lora_rank), so that a high rank learns as well (arXiv:2312.03732);
    or 'dora', which also trains the length of each row of an adapted layer (arXiv:2402.09353), in more memory and
    time."""
    lora_plus_ratio: float | None = None
    """Factor on the learning rate of the adapter matrices that start at zero, except for adapters of embeddings, 0.01
    to 1,000 (LoRA+, arXiv:2402.12354); None is 16."""
    ema_decay: float | None = None
    """Decay per step, 0 to 0.999999, of the exponential moving average of the weights, which the run then publishes."""
    frozen: tuple[str, ...] = ()
    """Weights of a CLIP that are not trained: 'text' or 'vision' for a tower, or the first part of parameter names,
    for example 'visual.transformer.resblocks.0.'."""
    learning_rates: Mapping[str, float] | None = None
    """Peak learning rates in (0, 1] of parts of a CLIP, in place of `learning_rate`: 'text', 'vision', 'logit_scale'
    and 'projection', the last layer of either tower, for example {'projection': 1e-3}. New projections need a higher
    rate than pretrained towers. A rate of 0 is `frozen`."""
    distillation: float = 0.0
    """Weight in [0, 100] of self-distillation, for a CLIP: the loss also has the cross entropy with the model that the
    run starts from, over the captions and images of each batch. 1 is usual; 0 is none. `val_loss` does not have it."""
    l2_sp: float = 0.0
    """Pull of the weights towards those that the run starts from, 0 to 10,000, for a CLIP (L2-SP, arXiv:1802.01483):
    before each step w -= rate * l2_sp * (w - start), a weight decay that has the start in the place of 0."""
    captions_per_image: int = 1
    """Captions of each image in a step, 1 to 8, for a CLIP: the loss is the mean over as many batches of the same
    images, which each have one caption of them. It costs the text tower's time for each; no more are taken than the
    data has of an image, and images with fewer repeat theirs."""
    hard_batches: int | None = None
    """Pairs in a group of similar ones, 2 to 64, at most batch_size. From the epoch `hard_batches_from` on, all pairs
    are embedded at the start of an epoch, and its batches consist of groups of pairs that the model confuses (B3,
    arXiv:2505.11293). None draws random batches."""
    hard_batches_from: int = HARD_FROM
    """First epoch with `hard_batches`, 1 to 10,000."""
    hard_negatives: Mapping[str, Any] | None = None
    """Options of mining, for example {'per_image': 1, 'range': [0, 100], 'relative_margin': 0.95, 'every': 1}: before
    training and after each `every` epochs, the captions of other images that the model finds most similar to an image
    become further negatives of it, unless they are likely to be true. See `HardNegatives`. None mines none."""
    near_duplicates: Mapping[str, Any] | None = None
    """Near duplicates among images and captions, by the similarity of the model that the run starts from, for example
    {'images': 0.95, 'captions': 0.95, 'soft': 0.0}: they are no negatives of one another, or with `soft` positives in
    part. {} takes the defaults, see `NearDuplicates`. None knows equal images, captions and labels alone."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """Share of the image's area that a random crop keeps, (low, high) in [0.01, 1]; (1, 1) never crops."""
    patch_dropout: float = 0.0
    """Share in [0, 0.9] of each image's patches that a step leaves out, for a CLIP with a vision transformer (FLIP,
    arXiv:2212.00794): 0.5 takes half of the vision tower's time and memory. Scores see every patch."""
    flips: bool = False
    """Mirror each image with probability 1/2. Leave it off for captions that mention left or right."""

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
        choice("lora_kind", self.lora_kind, (LORA, RSLORA, DORA))
        if self.lora_kind != LORA and self.lora_rank is None:
            raise InvalidInput(f"lora_kind needs lora_rank. Got {self.lora_kind!r} alone. Set both, or leave it out.")
        if self.lora_plus_ratio is not None:
            self._set("lora_plus_ratio", number("lora_plus_ratio", self.lora_plus_ratio, 0.01, 1000))
        if self.ema_decay is not None:
            self._set("ema_decay", number("ema_decay", self.ema_decay, 0, 0.999999))
        self._set("distillation", number("distillation", self.distillation, 0, 100))
        self._set("patch_dropout", number("patch_dropout", self.patch_dropout, 0, 0.9))
        if self.patch_dropout and VISION_PART in self.frozen:
            raise InvalidInput(
                f"patch_dropout must be left out where the vision tower is frozen: it would only see less. Got "
                f"{self.patch_dropout:g}. Leave one out."
            )
        self._set("l2_sp", number("l2_sp", self.l2_sp, 0, 10_000))
        if self.l2_sp and self.lora_rank is not None:
            raise InvalidInput(
                f"l2_sp must be left out beside lora_rank. Got {self.l2_sp:g}: adapters start at no change, so "
                f"weight_decay in optimizer_options pulls them there. Leave one out."
            )
        self._set("captions_per_image", whole("captions_per_image", self.captions_per_image, 1, MOST_CAPTIONS))
        if self.hard_batches is not None:
            self._set("hard_batches", whole("hard_batches", self.hard_batches, 2, 64))
        self._set("hard_batches_from", whole("hard_batches_from", self.hard_batches_from, 1, 10_000))
        if self.hard_batches is None and self.hard_batches_from != HARD_FROM:
            raise InvalidInput(
                f"hard_batches_from needs hard_batches. Got {self.hard_batches_from} alone. Set both, or leave it out."
            )
        if self.hard_negatives is not None:
            self._set("hard_negatives", HardNegatives.read(self.hard_negatives).to_dict())
        if self.near_duplicates is not None:
            self._set("near_duplicates", NearDuplicates.read(self.near_duplicates).to_dict())
        self._set("frozen", tuple(text("frozen", name) for name in _sequence("frozen", self.frozen)))
        if "" in self.frozen:
            raise InvalidInput("frozen must hold prefixes of names. Got '', the prefix of every name. Leave it out.")
        if self.learning_rates is not None:
            self._set("learning_rates", self._checked_rates() or None)
        low, high = (number("crop_scale", share, 0.01, 1) for share in self._two("crop_scale"))
        self._set("crop_scale", (low, high))
        if low > high:
            raise InvalidInput(f"crop_scale must be (low, high). Got ({low:g}, {high:g}). Swap them.")
        for name in ("lora_alpha", "lora_plus_ratio"):
            if (value := getattr(self, name)) is not None and self.lora_rank is None:
                raise InvalidInput(f"{name} needs lora_rank. Got {value:g} alone. Set both, or leave it out.")
        if {TEXT_PART, VISION_PART} <= set(self.frozen):
            raise InvalidInput("frozen must leave a tower to train. Got 'text' and 'vision'. Leave one out.")

    def _checked_rates(self) -> dict[str, float]:
        given = options("learning_rates", self.learning_rates, dict.fromkeys(PARTS))
        for part, rate in given.items():
            if rate == 0 or part in self.frozen:
                raise InvalidInput(
                    f"learning_rates[{part!r}] must be above 0, of a part that is not frozen. Got {rate!r} and "
                    f"frozen={list(self.frozen)}. Name the part in one of the two."
                )
        return {part: number(f"learning_rates[{part!r}]", rate, 1e-12, 1.0) for part, rate in given.items()}

    def _two(self, name: str) -> tuple[Any, Any]:
        value = _sequence(name, getattr(self, name))
        if len(value) != 2:
            raise InvalidInput(f"{name} must be two numbers, (low, high). Got {value!r}.")
        return value[0], value[1]

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def mining(self) -> HardNegatives | None:
        """The options of `hard_negatives`."""
        return None if self.hard_negatives is None else HardNegatives.read(self.hard_negatives)

    @property
    def duplicates(self) -> NearDuplicates | None:
        """The options of `near_duplicates`."""
        return None if self.near_duplicates is None else NearDuplicates.read(self.near_duplicates)

    @classmethod
    def read(cls, values: object, row: Backbone) -> TrainingOptions:
        """Return the checked options of a run.

        Args:
            values: options by field name.
            row: the run's backbone.

        Raises:
            InvalidInput: a name is unknown, a value is not allowed, or the backbone does not take an option.
        """
        given = options("training_options", values, {entry.name: entry for entry in fields(cls)})
        try:
            checked = cls(**given)
        except InvalidInput as error:
            raise InvalidInput(f"training_options: {error}") from error
        if row.task == IMAGE_TASK:
            for name in CLIP_ONLY:
                wanted = given.get(name) or (name == "near_duplicates" and given.get(name) is not None)
                if wanted and given[name] != cls.__dataclass_fields__[name].default:
                    raise InvalidInput(
                        f"training_options: {name} is for a CLIP. Got {given[name]!r} for {row.name}. {CLIP_ONLY[name]}"
                    )
        return checked

    def check_beside(self, callbacks: Collection[str], *, freeze: bool) -> None:
        """Refuse options that contradict other settings of the run.

        Args:
            callbacks: names of the run's callbacks.
            freeze: whether the backbone of an image model is frozen.

        Raises:
            InvalidInput: two settings contradict each other.
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

    def check_length(self, batch_size: int, epochs: int) -> None:
        """Refuse hard batches that a run would never see.

        Args:
            batch_size: of the run.
            epochs: of the run.

        Raises:
            InvalidInput: a group is larger than a batch, or the first epoch comes after the last one.
        """
        if self.hard_batches is None:
            return
        if self.hard_batches > batch_size:
            raise InvalidInput(
                f"hard_batches must be at most batch_size, {batch_size}. Got {self.hard_batches}. Lower it."
            )
        if self.hard_batches_from > epochs:
            raise InvalidInput(
                f"hard_batches must begin by the last epoch, {epochs}. Got hard_batches_from={self.hard_batches_from}. "
                f"Lower it, or raise epochs."
            )

    def changed(self) -> Mapping[str, Any]:
        """Return the fields that differ from their defaults, ready for JSON."""
        return {
            entry.name: list(value) if isinstance(value := getattr(self, entry.name), tuple) else value
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        }


def _sequence(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise InvalidInput(f"{name} must be a list. Got {value!r}.")
