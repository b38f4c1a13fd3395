"""Depths of parameters in each kind of tower."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.hf_model import HFTextEncoder
from transformers import XLMRobertaConfig

from finetuner.executors.trainer.loop.layer_decay import depths
from finetuner.models.clip import Clip
from finetuner.models.image_network import GeM, ImageNetwork


def layered(found: dict[str, int], part: str) -> list[int]:
    """Depths of the parameters whose name contains `part`, each once, in order."""
    return list(dict.fromkeys(depth for name, depth in found.items() if part in name))


def small(text: dict[str, Any], vision: dict[str, Any]) -> torch.nn.Module:
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 3} | text
    return open_clip.CLIP(16, {"image_size": 32, **vision}, text)


def test_transformers_of_open_clip(clip_mini: Clip) -> None:
    found = depths(clip_mini.network)
    assert found.keys() == dict(clip_mini.network.named_parameters()).keys()
    assert layered(found, "visual.transformer.resblocks") == [4, 3, 2, 1]
    assert layered({name: depth for name, depth in found.items() if name.startswith("transformer.")}, "") == [3, 2, 1]
    stem = {"visual.class_embedding": 5, "visual.positional_embedding": 5, "visual.conv1.weight": 5}
    stem |= {"visual.ln_pre.weight": 5, "token_embedding.weight": 4, "positional_embedding": 4}
    head = dict.fromkeys(("logit_scale", "visual.proj", "visual.ln_post.weight", "text_projection", "ln_final.bias"), 0)
    assert {name: found[name] for name in stem | head} == stem | head


def test_open_clips_resnet() -> None:
    found = depths(small({}, {"layers": [2, 1, 2, 1], "width": 16, "head_width": 16}))
    blocks = ("1.0", "1.1", "2.0", "3.0", "3.1", "4.0")
    layers = [found[f"visual.layer{block}.conv1.weight"] for block in blocks]
    assert layers == [6, 5, 4, 3, 2, 1]
    assert found["visual.layer3.1.bn2.bias"] == 2
    assert {found[f"visual.conv{index}.weight"] for index in (1, 2, 3)} == {7}
    assert layered(found, "visual.bn") == [7]
    assert layered(found, "attnpool") == [0]
    assert found["transformer.resblocks.0.ln_1.weight"] == 3


def test_text_towers_of_hugging_face() -> None:
    config = XLMRobertaConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, vocab_size=40
    )
    text = HFTextEncoder("xlm-roberta", 8, config=config, pooler_type="mean_pooler", proj_type="mlp", pretrained=False)
    network = torch.nn.Module()
    network.text, network.logit_scale = text, torch.nn.Parameter(torch.zeros(()))
    found = depths(network)
    assert layered(found, "text.transformer.embeddings") == [4]
    assert layered(found, "encoder.layer") == [3, 2, 1]
    assert found["text.transformer.encoder.layer.1.attention.output.LayerNorm.bias"] == 2
    assert layered(found, "text.proj") == [0]
    assert found["logit_scale"] == 0


@pytest.mark.parametrize(
    ("architecture", "stem", "last", "layers"),
    [
        ("resnet18", "conv1.weight", "layer4.1.conv2.weight", 8),
        ("efficientnet_b0", "conv_stem.weight", "blocks.6.0.conv_pw.weight", None),
        ("convnext_atto", "stem.0.weight", "stages.3.blocks.1.mlp.fc1.weight", None),
        ("vit_tiny_patch16_224", "patch_embed.proj.weight", "blocks.11.mlp.fc2.weight", None),
    ],
)
def test_networks_of_timm(architecture: str, stem: str, last: str, layers: int | None) -> None:
    trunk = timm.create_model(architecture, num_classes=3)
    found = depths(trunk)
    head = {name for name in found if name.startswith(("fc.", "classifier.", "head.fc.", "head.weight", "head.bias"))}
    assert head
    assert {found[name] for name in head} == {0}
    assert min(depth for name, depth in found.items() if name not in head) == 1
    assert found[stem] == max(found.values())
    assert found[last] <= 2  # a norm or a convolution after the blocks is a layer of its own
    assert sorted(set(found.values())) == list(range(max(found.values()) + 1))
    if layers is not None:
        assert found[stem] == layers + 1


def test_image_models_and_wrappers() -> None:
    network = ImageNetwork("test_resnet", GeM(), output_dim=4)
    found = depths(network)
    assert layered(found, "head.") + layered(found, "pooling.") == [0, 0]
    assert found["features.conv1.0.weight"] == max(found.values())
    assert min(depth for name, depth in found.items() if name.startswith("features.")) == 1
    wrapped = torch.nn.ModuleDict({"module": network})
    assert depths(wrapped) == {f"module.{name}": depth for name, depth in found.items()}


def test_a_wrapped_clip_has_the_same_depths(clip_mini: Clip) -> None:
    found = depths(clip_mini.network)
    assert depths(torch.nn.ModuleDict({"base_model": clip_mini.network})) == {
        f"base_model.{name}": depth for name, depth in found.items()
    }


def test_without_layers_all_is_at_depth_0() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Linear(4, 2))
    assert set(depths(network).values()) == {0}
