"""Repeated blocks are compiled, and a network without any as a whole."""

from __future__ import annotations

import open_clip
import pytest
import timm
from torch import nn

from finetuner.models.compilation import compile_network


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return the modules on which `compile` is called."""
    found: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: found.append(module))
    return found


@pytest.mark.seconds
def test_the_layers_of_both_towers_are_compiled(compiled: list[nn.Module]) -> None:
    network = open_clip.create_model("ViT-B-32", device="meta")
    compile_network(network)
    assert compiled == [*network.visual.transformer.resblocks, *network.transformer.resblocks]


def test_a_network_whose_blocks_differ_is_compiled_as_a_whole(compiled: list[nn.Module]) -> None:
    network = timm.create_model("resnet18")
    compile_network(network)
    assert compiled == [network]
