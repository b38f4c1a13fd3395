"""A CLIP with a BERT that is read at its first token, as transformers' ChineseCLIPModel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.clip import Clip
from ..models.text.text_towers import TEXT_CONFIG_FILE, FileTokenizer
from .clip_model import no_clip_model, tower_state, vision_config, write_clip_processor
from .tokenizer_files import write_padded_tokenizer

if TYPE_CHECKING:
    import torch

TEXT = "text.transformer."
# of a BERT; the rest of its configuration is not in ChineseCLIPTextConfig
SHARED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "max_position_embeddings", "layer_norm_eps", "type_vocab_size", "pad_token_id", "hidden_dropout_prob",
    "attention_probs_dropout_prob",
)  # fmt: skip


def is_chinese_clip(model: Clip) -> bool:
    """Return whether a model has the text tower of a ChineseCLIPModel: a BERT, its first token, a plain projection."""
    text: Any = getattr(model.network, "text", None)
    return (
        type(text).__name__ == "HFTextEncoder"
        and text.config.model_type == "bert"
        and type(text.pooler).__name__ == "ClsLastHiddenStatePooler"
        and type(text.proj).__name__ == "Linear"
        and text.proj.bias is None
        and getattr(model.network, "logit_bias", None) is None
    )


def write_chinese_clip(model: Clip, folder: Path) -> None:
    """Write a model that `transformers.ChineseCLIPModel.from_pretrained(folder)` loads, with processor and tokenizer.

    Args:
        model: see `is_chinese_clip`, with a plain vision transformer.
        folder: exists.

    Raises:
        InvalidInput: ChineseCLIPModel cannot hold the model.
    """
    import torch
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    network: Any = model.network
    state: dict[str, torch.Tensor] = tower_state(model, "vision") | {
        f"text_model.{name}": value.detach().cpu().float()
        for name, value in network.text.transformer.state_dict().items()
    }
    state |= {
        "visual_projection.weight": network.visual.proj.detach().cpu().float().T.contiguous(),
        "text_projection.weight": network.text.proj.weight.detach().cpu().float(),
        "logit_scale": network.logit_scale.detach().cpu().float(),
    }
    if not isinstance(model.tokenizer, FileTokenizer):
        raise no_clip_model(f"the tokenizer {type(model.tokenizer).__name__}")
    given = json.loads(model.files[TEXT_CONFIG_FILE])
    own = network.text.config
    text = {name: given.get(name, getattr(own, name)) for name in SHARED}
    config: dict[str, Any] = {
        "projection_dim": model.dim,
        "text_config": text,
        "vision_config": vision_config(model),
    }
    with torch.random.fork_rng(devices=[]):  # its weights are random at first
        other: Any = ChineseCLIPModel(ChineseCLIPConfig(**config))
    loaded = other.load_state_dict(state, strict=False)
    if wrong := [name for name in (*loaded.missing_keys, *loaded.unexpected_keys) if "position_ids" not in name]:
        raise no_clip_model(f"weights of other names ({wrong[0]})")
    other.save_pretrained(folder)
    write_clip_processor(model, folder, "ChineseCLIPImageProcessorPil")
    write_padded_tokenizer(model, folder, ("input_ids", "attention_mask"))
