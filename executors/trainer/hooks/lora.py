"""Trains low-rank adapters instead of the weights (LoRA, arXiv:2106.09685), and merges them at the end."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import nn

from finetuner.config.training_options import DORA, LORA, RSLORA
from finetuner.exceptions import InvalidInput
from finetuner.models.model_kinds import Model

from .freezing import keep_statistics
from .hook import Hook, Progress

if TYPE_CHECKING:
    from peft import LoraModel

STILL_TRAINED = ("logit_scale", "logit_bias", "head.", "pooling.")
"""Prefixes of parameters that are trained without adapters: they are not pretrained, or are a single number."""
ROOT, ADAPTER, OF_ATTENTION = "network", "default", "attention"

log = logging.getLogger("finetuner")


class TrainAdapters(Hook):
    """Freezes the weights and trains adapters: B @ A * alpha / rank is added to each adapted weight.

    Adapters go into linear layers, the input projections of fused attention, embeddings, and convolutions over all
    channels. The output projection of fused attention gets none: peft 0.21 counts its adapter twice forward and once
    backward.

    With 'rslora' the factor is alpha / sqrt(rank) (arXiv:2312.03732). With 'dora' (arXiv:2402.09353) each column of an
    adapted layer's sum also has its length trained, which starts at that of the weight; fused attention, which peft
    does not give lengths, has plain adapters.

    Args:
        rank: of A and B, at least 1.
        alpha: above 0; None is twice the rank.
        seed: of the adapters' initial weights.
        kind: 'lora', 'rslora' or 'dora'.
    """

    def __init__(self, rank: int, alpha: float | None, seed: int, kind: str = LORA) -> None:
        self._kind = kind
        self._rank = rank
        self._alpha = 2.0 * rank if alpha is None else alpha
        self._seed = seed
        self._tuner: LoraModel | None = None
        self._checked = False

    def before_training(self, progress: Progress) -> None:
        """Insert adapters into the network. They do not change its output yet.

        Raises:
            InvalidInput: the network has no layer to adapt.
        """
        from peft import LoraConfig, LoraModel  # takes seconds

        network = progress.model.network
        layers, attention = adapted(network)
        if not layers and not attention:
            raise InvalidInput(
                f"lora_rank needs linear layers, attention or convolutions that are not frozen. Got none in "
                f"{type(network).__name__}. Leave lora_rank out, or freeze less."
            )
        own = [
            parameter
            for name, parameter in network.named_parameters()
            if name.startswith(STILL_TRAINED) and parameter.requires_grad
        ]
        if self._kind == DORA and not layers:
            raise InvalidInput(
                f"lora_kind='dora' needs linear layers or convolutions that are not frozen. Got none in "
                f"{type(network).__name__}. Choose 'lora', or freeze less."
            )

        def config_of(layers: list[str], attention: list[str], *, lengths: bool) -> LoraConfig:
            return LoraConfig(
                r=self._rank,
                lora_alpha=self._alpha,  # type: ignore[arg-type]  # any number scales
                target_modules=[f"{ROOT}.{name}" for name in layers],
                target_parameters=[f"{ROOT}.{name}" for name in attention],
                use_rslora=self._kind == RSLORA,
                use_dora=lengths,
            )

        dora = self._kind == DORA
        root = nn.ModuleDict({ROOT: network})  # peft matches suffixes of names: a root turns them into whole names
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._tuner = LoraModel(root, config_of(layers, [] if dora else attention, lengths=dora), ADAPTER)
            if dora and attention:  # adapters of another kind are another adapter for peft
                self._tuner.peft_config[OF_ATTENTION] = config_of([], attention, lengths=False)
                self._tuner.inject_adapter(root, OF_ATTENTION)
                self._tuner.set_adapter([ADAPTER, OF_ATTENTION])
        for parameter in own:
            parameter.requires_grad_()
        keep_statistics(network)
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
        trained, total = sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
        name = {LORA: "LoRA", RSLORA: "rsLoRA", DORA: "DoRA"}[self._kind]
        log.info("%s: rank %d trains %.2f%% of %d parameters", name, self._rank, 100 * trained / total, total)

    def after_step(self, progress: Progress) -> None:
        """Warn after the first step about idle adapters: a network may read weights without calling their layers."""
        if self._checked:
            return
        # B starts at zero and stays there without a gradient. After a step that fp16 skipped, every B is zero.
        moved = {
            name: bool(value.any()) for name, value in progress.model.network.named_parameters() if "lora_B" in name
        }
        self._checked = any(moved.values())
        idle = [name for name, has_moved in moved.items() if self._checked and not has_moved]
        if idle:
            log.warning("LoRA: %d adapters have no effect here: %s", len(idle), ", ".join(idle[:3]))

    def merged(self, model: Model) -> Model:
        """Return a copy of the model with plain weights. Training continues unchanged."""
        plain = copy.copy(model)
        plain.network = _merge(copy.deepcopy(self._tuner))
        return plain

    def merge(self) -> None:
        """Merge the adapters into plain weights, under their original names."""
        _merge(self._tuner)


class MergeAdapters(Hook):
    """Merges adapters after training. In the list of hooks it precedes those that need plain weights.

    Args:
        adapters: last in the list, after hooks that keep the pretrained weights.
    """

    def __init__(self, adapters: TrainAdapters) -> None:
        self._adapters = adapters

    def choose_weights(self, progress: Progress) -> None:
        """Merge the adapters."""
        self._adapters.merge()
        log.info("LoRA: adapters merged")


def adapted(network: nn.Module) -> tuple[list[str], list[str]]:
    """Return the names of the layers to adapt, and of the fused input projections of attention to adapt.

    Frozen layers and `STILL_TRAINED` ones are not adapted.
    """
    layers, attention = [], []
    bypassed: tuple[str, ...] = STILL_TRAINED  # and layers whose weights are read without a call
    for name, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            bypassed += (f"{name}.",)
            if module.in_proj_weight is not None and module.in_proj_weight.requires_grad:
                attention.append(f"{name}.in_proj_weight")
        elif isinstance(module, AttentionPool2d):
            bypassed += (f"{name}.",)
        elif not name.startswith(bypassed) and _is_adaptable(module):
            layers.append(name)
    return layers, attention


def _is_adaptable(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:  # a subclass may pad or scale differently
        mixes_channels = module.groups == 1
        cuts_patches = module.stride == module.kernel_size != (1, 1)
        return mixes_channels and not cuts_patches and module.weight.requires_grad
    return type(module) in (nn.Linear, nn.Embedding) and bool(module.weight.requires_grad)


def _merge(tuner: LoraModel | None) -> nn.Module:
    assert tuner is not None, "adapters must exist before they are merged"
    network: nn.Module = tuner.merge_and_unload()[ROOT]  # type: ignore[index]
    return network
