"""Losses, miners and samplers for labelled images, and their options; checked without torch.

Names and options are those of pytorch-metric-learning, as far as numbers, flags and strings express them. Options that
take Python objects, such as distances and reducers, are left out, as are losses that need no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..contract.checks import choice, flag, number, options, text, whole
from ..exceptions import InvalidInput
from .losses import IMAGE_LOSS
from .optimizer_config import OPTIMIZERS, OWN_OPTIONS

Defaults = Mapping[str, Any]
"""Option -> default of the library; the default's type is the type of the option."""

# Losses that compare the images of a batch with each other.
PAIR_LOSSES: Mapping[str, Defaults] = {
    "AngularLoss": {"alpha": 40},
    "CircleLoss": {"m": 0.4, "gamma": 80},
    "ContrastiveLoss": {"pos_margin": 0, "neg_margin": 1},
    "DynamicSoftMarginLoss": {"min_val": -2.0, "num_bins": 10, "momentum": 0.01},
    "FastAPLoss": {"num_bins": 10},
    "GeneralizedLiftedStructureLoss": {"neg_margin": 1, "pos_margin": 0},
    "HistogramLoss": {"n_bins": 100},
    "InstanceLoss": {"gamma": 64},
    "IntraPairVarianceLoss": {"pos_eps": 0.01, "neg_eps": 0.01},
    "LiftedStructureLoss": {"neg_margin": 1, "pos_margin": 0},
    "MarginLoss": {"margin": 0.2, "nu": 0, "beta": 1.2, "triplets_per_anchor": "all", "learn_beta": False},
    "MultiSimilarityLoss": {"alpha": 2, "beta": 50, "base": 0.5},
    "NCALoss": {"softmax_scale": 1},
    "NPairsLoss": {},
    "NTXentLoss": {"temperature": 0.07},
    "PNPLoss": {"b": 2, "alpha": 1, "anneal": 0.01, "variant": "O"},
    "RankedListLoss": {"margin": 0.4, "Tn": 5, "imbalance": 0.5, "Tp": 0},
    "SignalToNoiseRatioContrastiveLoss": {"pos_margin": 0, "neg_margin": 1},
    "SmoothAPLoss": {"temperature": 0.01},
    "SupConLoss": {"temperature": 0.1},
    "ThresholdConsistentMarginLoss": {
        "lambda_plus": 1.0, "lambda_minus": 1.0, "margin_plus": 0.9, "margin_minus": 0.5,
    },
    "TripletMarginLoss": {"margin": 0.05, "swap": False, "smooth_loss": False, "triplets_per_anchor": "all"},
    "TupletMarginLoss": {"margin": 5.73, "scale": 64},
}  # fmt: skip

# Losses with trainable weights for each label.
CLASS_LOSSES: Mapping[str, Defaults] = {
    "ArcFaceLoss": {"margin": 28.6, "scale": 64},
    "CosFaceLoss": {"margin": 0.35, "scale": 64},
    "LargeMarginSoftmaxLoss": {"margin": 4, "scale": 1},
    "NormalizedSoftmaxLoss": {"temperature": 0.05},
    "P2SGradLoss": {},
    "ProxyAnchorLoss": {"margin": 0.1, "alpha": 32},
    "ProxyNCALoss": {"softmax_scale": 1},
    "SoftTripleLoss": {"centers_per_class": 10, "la": 20, "gamma": 0.1, "margin": 0.01},
    "SphereFaceLoss": {"margin": 4, "scale": 1},
    "SubCenterArcFaceLoss": {"margin": 28.6, "scale": 64, "sub_centers": 3},
}

# Losses that can also compare a batch with earlier batches (cross-batch memory, Wang et al., arXiv:1912.06798).
WITH_MEMORY = (
    "AngularLoss", "CircleLoss", "ContrastiveLoss", "GeneralizedLiftedStructureLoss", "IntraPairVarianceLoss",
    "LiftedStructureLoss", "MarginLoss", "MultiSimilarityLoss", "NCALoss", "NTXentLoss",
    "SignalToNoiseRatioContrastiveLoss", "SupConLoss", "TripletMarginLoss", "TupletMarginLoss",
)  # fmt: skip
MEMORY_SIZE = "memory_size"
"""Option of `WITH_MEMORY`: number of embeddings to keep, from the size of a batch to 65,536; 0 keeps none."""

LOSSES: Mapping[str, Defaults] = {
    **PAIR_LOSSES,
    **{name: {**PAIR_LOSSES[name], MEMORY_SIZE: 0} for name in WITH_MEMORY},
    **CLASS_LOSSES,
}
METRIC_LOSSES = tuple(sorted(LOSSES))
WITHOUT_MINER = ("InstanceLoss", "P2SGradLoss", "PNPLoss", "RankedListLoss")

MINERS: Mapping[str, Defaults] = {
    "AngularMiner": {"angle": 20},
    "BatchEasyHardMiner": {"pos_strategy": "easy", "neg_strategy": "semihard"},
    "BatchHardMiner": {},
    "DistanceWeightedMiner": {"cutoff": 0.5, "nonzero_loss_cutoff": 1.4},
    "HDCMiner": {"filter_percentage": 0.5},
    "MultiSimilarityMiner": {"epsilon": 0.1},
    "PairMarginMiner": {"pos_margin": 0.2, "neg_margin": 0.8},
    "TripletMarginMiner": {"margin": 0.2, "type_of_triplets": "all"},
    "UniformHistogramMiner": {"num_bins": 100, "pos_per_bin": 10, "neg_per_bin": 10},
}

STRATEGIES = ("easy", "semihard", "hard", "all")
WORDS = {
    "pos_strategy": STRATEGIES,
    "neg_strategy": STRATEGIES,
    "type_of_triplets": ("all", "hard", "semihard", "easy"),
    "variant": ("Ds", "Dq", "Iu", "Ib", "O"),
}
COUNTS = (
    "num_bins", "n_bins", "centers_per_class", "sub_centers", "pos_per_bin", "neg_per_bin", "triplets_per_anchor",
)  # fmt: skip
SAMPLERS = ("auto", "class", "random")
LOSS_RATE = (1e-12, 10.0)


@dataclass(frozen=True)
class MetricConfig:
    """Loss, miner and sampler of a run on labelled images.

    Raises:
        InvalidInput: a name, an option or a value is not allowed.
    """

    loss: str = IMAGE_LOSS
    """One of `METRIC_LOSSES`."""
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the loss, see `LOSSES`."""
    miner: str | None = None
    """One of `MINERS`; None takes every pair or triplet of a batch."""
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the miner, see `MINERS`."""
    sampler: str = "auto"
    """'class' puts several images of a label into each batch; 'random'; 'auto' is random for `CLASS_LOSSES`, class for
    other losses."""
    num_items_per_class: int = 4
    """Images of a label in a batch of the class sampler, 2 to 1,024."""
    loss_optimizer: str | None = None
    """Optimizer of the loss's own weights, one of `OPTIMIZERS`; None takes the run's optimizer."""
    loss_optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """Its options, see `optimizer_config`, and lr; without lr it uses the run's learning rate."""

    def __post_init__(self) -> None:
        choice("loss", self.loss, METRIC_LOSSES)
        self._set("loss_options", _checked("loss_options", self.loss_options, self.loss, LOSSES))
        if self.miner is not None:
            choice("miner", self.miner, tuple(MINERS))
            if self.loss in WITHOUT_MINER:
                raise InvalidInput(f"miner must be None with {self.loss}. Got {self.miner!r}. Leave one of them out.")
            self._set("miner_options", _checked("miner_options", self.miner_options, self.miner, MINERS))
        elif self.miner_options:
            raise InvalidInput(f"miner_options need a miner. Got {dict(self.miner_options)} and none. Set miner.")
        choice("sampler", self.sampler, SAMPLERS)
        self._set("num_items_per_class", whole("num_items_per_class", self.num_items_per_class, 2, 1024))
        if self.loss_optimizer is not None:
            choice("loss_optimizer", self.loss_optimizer, OPTIMIZERS)
        known = {"lr": LOSS_RATE, **{name: rule for rules in OWN_OPTIONS.values() for name, rule in rules.items()}}
        given = options("loss_optimizer_options", self.loss_optimizer_options, known)
        if "lr" in given:
            given["lr"] = number("loss_optimizer_options['lr']", given["lr"], *LOSS_RATE)
        self._set("loss_optimizer_options", given)
        if self.loss not in CLASS_LOSSES and (self.loss_optimizer or self.loss_optimizer_options):
            raise InvalidInput(
                f"loss_optimizer needs a loss with weights of its own ({', '.join(CLASS_LOSSES)}). Got {self.loss}. "
                f"Leave it out."
            )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def learns_classes(self) -> bool:
        """Whether the loss has weights of its own for each label."""
        return self.loss in CLASS_LOSSES

    @property
    def samples_classes(self) -> bool:
        """Whether batches hold several images of a label."""
        return self.sampler == "class" or (self.sampler == "auto" and not self.learns_classes)


def _checked(what: str, given: object, owner: str, table: Mapping[str, Defaults]) -> dict[str, Any]:
    """Return the options of a loss or miner, their names and types checked against its defaults."""
    defaults = table[owner]
    if not defaults and given:
        raise InvalidInput(f"{what} must be empty for {owner}. Got {given!r}. Leave them out.")
    for name in given if isinstance(given, Mapping) else ():
        choice(f"name in {what} of {owner}", name, tuple(defaults))
    return {
        name: _value(f"{what}[{name!r}]", name, value, defaults[name])
        for name, value in options(what, given, defaults).items()
    }


def _value(what: str, name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        return flag(what, value)
    if name in WORDS:
        choice(what, text(what, value), WORDS[name])
        return value
    if name == MEMORY_SIZE:
        return whole(what, value, 0, 65_536)
    if name in COUNTS:
        return value if default == "all" and value == "all" else whole(what, value, 1, 10_000)
    return number(what, value, -1e6, 1e6)
