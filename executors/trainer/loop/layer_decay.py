"""Computes the depth of each parameter in its tower, for learning rates that fall from layer to layer.

As in BEiT (Bao et al., arXiv:2106.08254): the last layer of a tower is at depth 1, its first of n at depth n, the
embeddings or stem below it at n + 1; heads, projections, last norms and the logit scale are at depth 0. In models of
timm, a norm or convolution after the layers counts as one more.
"""

from __future__ import annotations

import re

from timm.models import group_parameters
from torch import nn

# A layer of open_clip's transformers and ModifiedResNet, or of Hugging Face's text towers (`encoder.layer.0`).
LAYER = re.compile(r"^.*?\.(?:resblocks|blocks?|layers?\d*)\.\d+(?=\.)")
TOP = re.compile(r"\.(attnpool|attn_pool|pooler|proj)\.|\.(ln_post|ln_final|final_norm|norm)\.|proj(ection)?$")
STEM = re.compile(
    r"\.(conv\d|bn\d|ln_pre|patchnorm_pre_ln|patch_dropout|embeddings|token_embedding|embed_tokens|shared)\."
    r"|\.(class_embedding|positional_embedding|cls_emb)$"
)


def depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter in its tower, by name: 0 above all layers.

    Args:
        network: a CLIP of open_clip or an image model. All parameters of any other network are at depth 0. It may be
            wrapped by peft, torch.compile or DistributedDataParallel.
    """
    names = [name for name, _ in network.named_parameters()]
    found = dict.fromkeys(names, 0)
    by_tower: dict[str, list[str]] = {}
    trunks = {prefix: module for prefix, module in network.named_modules() if hasattr(module, "group_matcher")}
    for name in names:
        if not any(name.startswith(f"{prefix}.") for prefix in trunks):
            by_tower.setdefault(_tower(name), []).append(name)
    for tower in by_tower.values():
        found |= _transformer_depths(tower)
    for prefix, trunk in trunks.items():
        found |= {f"{prefix}.{name}" if prefix else name: depth for name, depth in _timm_depths(trunk).items()}
    return found


def _tower(name: str) -> str:
    towers = [part for part in name.split(".") if part in ("visual", "text_decoder")]
    return towers[0] if towers else "text"


def _transformer_depths(names: list[str]) -> dict[str, int]:
    """Return depths in one tower. The order of its layers is that of its parameters."""
    layers = {name: found[0] for name in names if (found := LAYER.match(f".{name}"))}
    order = {layer: index for index, layer in enumerate(dict.fromkeys(layers.values()))}
    result = {}
    for name in names:
        if name in layers:
            result[name] = len(order) - order[layers[name]]
        elif order and STEM.search(f".{name}") and not TOP.search(f".{name}"):
            result[name] = len(order) + 1
    return result


def _timm_depths(trunk: nn.Module) -> dict[str, int]:
    """Return depths in a timm model, whose groups are numbered from the stem."""
    matcher = trunk.group_matcher(coarse=False)  # type: ignore[operator]
    groups: dict[str, int] = group_parameters(trunk, matcher, reverse=True)
    names = [name for name, _ in trunk.named_parameters()]
    classifier = getattr(trunk, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{head}." for head in ([classifier] if isinstance(classifier, str) else classifier))
    last = max((groups[name] for name in names if not name.startswith(heads)), default=0)
    return {name: 0 if name.startswith(heads) else last + 1 - groups[name] for name in names}
