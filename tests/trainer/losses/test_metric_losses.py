"""Each loss and miner by name, two losses against loops, and the client's tables against the library."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections import deque
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, miners

from finetuner.config.metric_config import (
    CLASS_LOSSES,
    LOSSES,
    METRIC_LOSSES,
    MINERS,
    PAIR_LOSSES,
    WITH_MEMORY,
    WITHOUT_MINER,
    MetricConfig,
)
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.losses.metric_losses import MetricLoss

# These need other losses, take no labels, or are base classes.
OTHER_LOSSES = {
    "BaseLossWrapper", "BaseMetricLossFunction", "CrossBatchMemory", "EmbeddingRegularizerMixin", "GenericPairLoss",
    "ManifoldLoss", "MultipleLosses", "SelfSupervisedLoss", "VICRegLoss", "WeightRegularizerMixin",
}  # fmt: skip
OTHER_MINERS = {"BaseMiner", "EmbeddingsAlreadyPackagedAsTriplets"}
OTHER_DEFAULTS = {"RankedListLoss": {"margin", "Tn"}, "HistogramLoss": {"n_bins"}}  # the library has none

LABELS = torch.arange(4).repeat_interleave(3)  # (12,)
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")


def embeddings(dtype: torch.dtype = torch.float32, count: int = 12) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()


def classes_of(library: Any, left_out: set[str]) -> set[str]:
    return {name for name, value in vars(library).items() if inspect.isclass(value)} - left_out


def library_defaults(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        for name, parameter in inspect.signature(owner.__init__).parameters.items():
            found.setdefault(name, parameter.default)
    return found


def test_the_names_are_the_librarys() -> None:
    assert set(METRIC_LOSSES) == classes_of(losses, OTHER_LOSSES)
    assert set(MINERS) == classes_of(miners, OTHER_MINERS)
    assert set(WITH_MEMORY) == set(losses.CrossBatchMemory.supported_losses())


@pytest.mark.parametrize("name", [*LOSSES, *MINERS])
def test_the_defaults_are_the_librarys(name: str) -> None:
    kind = getattr(losses if name in LOSSES else miners, name)
    found = library_defaults(kind)
    for option, default in {**PAIR_LOSSES, **CLASS_LOSSES, **MINERS}[name].items():
        assert option in found
        assert found[option] == default or option in OTHER_DEFAULTS.get(name, ())


@pytest.mark.process
def test_the_names_come_without_torch() -> None:
    code = "import sys, finetuner.config.metric_config, finetuner.models.model_kinds; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", METRIC_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_loss_gives_a_gradient(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    vectors = embeddings(dtype)
    loss = MetricLoss(MetricConfig(name, loss_options=LOSSES[name]), 4, 8)
    value = loss(vectors, LABELS)
    value.backward()
    assert value.shape == ()
    assert math.isfinite(value.item())
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0
    assert loss.has_weights == (name in CLASS_LOSSES)


@pytest.mark.parametrize("name", MINERS)
def test_every_miner_goes_with_a_loss(name: str) -> None:
    config = MetricConfig(miner=name, miner_options=MINERS[name])
    assert math.isfinite(MetricLoss(config, 4, 8)(embeddings(), LABELS).item())


@pytest.mark.parametrize("name", sorted(set(METRIC_LOSSES) - set(WITHOUT_MINER)))
def test_every_other_loss_takes_a_miner(name: str) -> None:
    loss = MetricLoss(MetricConfig(name, miner="TripletMarginMiner"), 4, 8)
    assert math.isfinite(loss(embeddings(), LABELS).item())


@pytest.mark.parametrize("labels", [torch.arange(12), torch.zeros(12, dtype=torch.int64)])
def test_a_batch_without_triplets_has_loss_zero(labels: torch.Tensor) -> None:
    vectors = embeddings()
    loss = MetricLoss(MetricConfig(), 4, 8)(vectors, labels)
    loss.backward()
    assert loss.item() == 0


def naive_triplet(vectors: list[list[float]], labels: list[int], margin: float) -> float:
    """Mean of the positive max(d(a, p) - d(a, n) + margin, 0) over all triplets of unit vectors."""
    unit = [[value / math.hypot(*vector) for value in vector] for vector in vectors]
    violations = []
    for anchor in range(len(unit)):
        for positive in range(len(unit)):
            for negative in range(len(unit)):
                if anchor == positive or labels[anchor] != labels[positive] or labels[anchor] == labels[negative]:
                    continue
                near, far = math.dist(unit[anchor], unit[positive]), math.dist(unit[anchor], unit[negative])
                violations.append(near - far + margin)
    positive_ones = [violation for violation in violations if violation > 0]
    return sum(positive_ones) / len(positive_ones)


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_triplet_margin_loss_is_the_mean_over_all_violated_triplets(margin: float) -> None:
    vectors = embeddings()
    loss = MetricLoss(MetricConfig(loss_options={"margin": margin}), 4, 8)(vectors, LABELS)
    assert loss.item() == pytest.approx(naive_triplet(vectors.tolist(), LABELS.tolist(), margin), rel=1e-5)


def batches(count: int) -> list[torch.Tensor]:
    """The given number of batches of 4 embeddings."""
    return list(torch.randn(count, 4, 8, generator=torch.Generator().manual_seed(1)))


def naive_memory_triplet(seen: list[tuple[list[float], int, int]], last: int, margin: float) -> float:
    """`naive_triplet` with anchors of the last batch alone; each entry is a vector, its label and its batch."""
    unit = [[value / math.hypot(*vector) for value in vector] for vector, _, _ in seen]
    violations = []
    for anchor, (_, label, batch) in enumerate(seen):
        if batch != last:
            continue
        for positive, (_, same, _) in enumerate(seen):
            for negative, (_, other, _) in enumerate(seen):
                if anchor == positive or same != label or other == label:
                    continue
                near, far = math.dist(unit[anchor], unit[positive]), math.dist(unit[anchor], unit[negative])
                violations.append(near - far + margin)
    positive_ones = [violation for violation in violations if violation > 0]
    return sum(positive_ones) / len(positive_ones)


@pytest.mark.parametrize("size", [4, 6, 8, 100])
def test_memory_compares_a_batch_with_the_newest_embeddings(size: int) -> None:
    loss = MetricLoss(MetricConfig(loss_options={"margin": 0.5, "memory_size": size}), 3, 8)
    labels, kept = torch.tensor([0, 1, 0, 2]), deque[tuple[list[float], int, int]](maxlen=size)
    for number, vectors in enumerate(batches(5)):
        kept.extend((vector, label, number) for vector, label in zip(vectors.tolist(), labels.tolist(), strict=True))
        expected = naive_memory_triplet(list(kept), number, 0.5)
        assert loss(vectors, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", WITH_MEMORY)
@pytest.mark.parametrize("miner", [None, "TripletMarginMiner"])
def test_every_loss_with_memory_has_gradients_at_the_batch(name: str, miner: str | None) -> None:
    torch.manual_seed(0)
    loss = MetricLoss(MetricConfig(name, {"memory_size": 24}, miner), 4, 8)
    for _ in range(3):  # the memory fills up and wraps around
        vectors = torch.randn(12, 8, requires_grad=True)
        value = loss(vectors, LABELS)
        value.backward()
        assert math.isfinite(value.item())
        assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0


@pytest.mark.parametrize("name", MINERS)
def test_every_miner_looks_into_the_memory(name: str) -> None:
    torch.manual_seed(0)
    loss = MetricLoss(MetricConfig("ContrastiveLoss", {"memory_size": 24}, name), 4, 8)
    assert all(math.isfinite(loss(torch.randn(12, 8), LABELS).item()) for _ in range(3))


def test_the_memory_is_in_the_state_dict() -> None:
    config = MetricConfig(loss_options={"margin": 0.5, "memory_size": 6})
    first, second = MetricLoss(config, 3, 8), MetricLoss(config, 3, 8)
    labels = torch.tensor([0, 1, 0, 2])
    *earlier, last = batches(3)
    for count, vectors in enumerate(earlier, start=1):
        first(vectors, labels)
        second.load_state_dict(first.state_dict())
        assert second._memory.get_extra_state().tolist() == [4 * count % 6, int(count > 1)]
    assert torch.equal(first(last, labels), second(last, labels))


def test_validation_leaves_the_memory_alone() -> None:
    config = MetricConfig(loss_options={"margin": 0.5, "memory_size": 24})
    loss, vectors = MetricLoss(config, 4, 8), embeddings()
    loss(-vectors, LABELS)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    plain = MetricLoss(MetricConfig(loss_options={"margin": 0.5}), 4, 8)(vectors, LABELS)
    assert loss(vectors, LABELS, mine=False).item() == plain.item()
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def naive_arc_face(
    vectors: list[list[float]], weights: list[list[float]], labels: list[int], degrees: float, scale: float
) -> float:
    """Mean of -log softmax(scale * cos(angle to each class)), the angle to the right one enlarged by the margin."""
    total = 0.0
    for vector, label in zip(vectors, labels, strict=True):
        logits = []
        for number, weight in enumerate(weights):
            cosine = sum(a * b for a, b in zip(vector, weight, strict=True)) / math.hypot(*vector) / math.hypot(*weight)
            angle = math.acos(cosine) + (math.radians(degrees) if number == label else 0)
            # Past 180 degrees the cosine rises again; the library continues linearly from there.
            bound = cosine - math.radians(degrees) * math.sin(math.radians(degrees))
            logits.append(scale * (math.cos(angle) if angle <= math.pi else bound))
        highest = max(logits)
        total += math.log(sum(math.exp(logit - highest) for logit in logits)) + highest - logits[label]
    return total / len(vectors)


@pytest.mark.parametrize(("degrees", "scale"), [(28.6, 64), (10, 8)])
def test_arc_face_is_cross_entropy_with_a_wider_angle(degrees: float, scale: float) -> None:
    torch.manual_seed(0)
    vectors = embeddings()
    loss = MetricLoss(MetricConfig("ArcFaceLoss", {"margin": degrees, "scale": scale}), 4, 8)
    weights = next(loss.parameters()).T.tolist()
    expected = naive_arc_face(vectors.tolist(), weights, LABELS.tolist(), degrees, scale)
    assert loss(vectors, LABELS).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "TripletMargin"}, "Did you mean 'TripletMarginLoss'?"),
        ({"loss": "CLIPLoss"}, "loss must be one of"),
        ({"loss_options": {"margn": 1}}, "Did you mean 'margin'?"),
        ({"loss_options": {"margin": "wide"}}, "number"),
        ({"loss_options": {"swap": 1}}, "True or False"),
        ({"loss_options": {"distance": "cosine"}}, "must be one of margin"),
        ({"loss": "NPairsLoss", "loss_options": {"x": 1}}, "must be empty for NPairsLoss"),
        ({"miner": "TripletMiner"}, "Did you mean 'TripletMarginMiner'?"),
        ({"miner_options": {"margin": 1}}, "need a miner"),
        ({"miner": "TripletMarginMiner", "miner_options": {"type_of_triplets": "esy"}}, "Did you mean 'easy'?"),
        ({"loss": "PNPLoss", "miner": "HDCMiner"}, "must be None with PNPLoss"),
        ({"sampler": "classes"}, "Did you mean 'class'?"),
        ({"num_items_per_class": 1}, "[2, 1024]"),
        ({"loss_optimizer": "Adam"}, "weights of its own"),
        ({"loss": "ArcFaceLoss", "loss_optimizer": "Adm"}, "Did you mean"),
        ({"loss": "ArcFaceLoss", "loss_optimizer_options": {"lr": 0}}, "number"),
        ({"loss": "ArcFaceLoss", "loss_optimizer_options": {"layer_wise_lr_decay": 0.5}}, "must have keys of lr"),
        ({"loss_options": {"memory_size": 65_537}}, "[0, 65536]"),
        ({"loss": "SmoothAPLoss", "loss_options": {"memory_size": 64}}, "must be one of temperature"),
    ],
)
def test_wrong_options_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MetricConfig(**fields)
    assert message in str(caught.value)


def test_options_that_do_not_go_together_are_refused() -> None:
    config = MetricConfig(miner="BatchEasyHardMiner", miner_options={"pos_strategy": "semihard"})
    with pytest.raises(InvalidInput, match="BatchEasyHardMiner must have options that go together"):
        MetricLoss(config, 4, 8)


def test_auto_samples_classes_for_losses_that_compare() -> None:
    assert MetricConfig().samples_classes
    assert not MetricConfig("ArcFaceLoss").samples_classes
    assert MetricConfig("ArcFaceLoss", sampler="class").samples_classes
    assert not MetricConfig(sampler="random").samples_classes
