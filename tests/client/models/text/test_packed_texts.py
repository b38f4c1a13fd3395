"""The packed forward pass of a text tower gives what its layers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch import nn

from finetuner.models.clip import causal_text_features
from finetuner.models.text.packed_texts import packed_text_features, packs

END = 99
VISION = {"layers": 1, "width": 32, "head_width": 16, "image_size": 32, "patch_size": 16}


def network_of(**options: Any) -> CLIP:
    torch.manual_seed(0)
    text = {"context_length": 12, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2, **options}
    network = CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=text, quick_gelu=bool(options.get("ls_init_value")))
    for parameter in network.parameters():  # open_clip starts biases and positions near zero
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def tokens_of(*lengths: int) -> torch.Tensor:
    """Return texts of so many tokens, the end token included, (texts, longest) int64."""
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randint(1, END, (length,), generator=torch.Generator().manual_seed(row))
        tokens[row, length - 1] = END
    return tokens


@pytest.mark.parametrize("lengths", [(1,), (7,), (5, 5), (3, 12, 1, 7), (2,) * 9])
@pytest.mark.parametrize("options", [{}, {"layers": 1}, {"ls_init_value": 0.3}, {"proj_bias": True}])
@torch.inference_mode()
def test_equals_the_layers(lengths: tuple[int, ...], options: dict[str, Any]) -> None:
    network, tokens = network_of(**options), tokens_of(*lengths)
    assert packs(network)
    expected = causal_text_features(network, tokens)
    assert torch.allclose(packed_text_features(network, tokens), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_text_does_not_read_its_neighbours() -> None:
    network, tokens = network_of(), tokens_of(3, 12, 6)
    together = packed_text_features(network, tokens)
    for row, length in enumerate((3, 12, 6)):
        alone = packed_text_features(network, tokens[row : row + 1, :length])
        assert torch.allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)


def test_other_layers_are_called() -> None:
    class Changed(nn.MultiheadAttention):
        """Such as LoRA's."""

    network = network_of()
    handle = network.transformer.resblocks[0].register_forward_hook(lambda *_: None)
    assert not packs(network)
    handle.remove()
    assert packs(network)
    network.transformer.resblocks[1].attn = Changed(32, 2, batch_first=True)
    assert not packs(network)
    assert not packs(network_of(qk_norm=True, block_type="custom"))
