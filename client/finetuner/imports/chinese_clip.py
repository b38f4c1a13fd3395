"""Reads transformers' ChineseCLIPModel: CLIP's vision transformer, and a BERT that is read at its first token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.checks import whole
from ..exceptions import InvalidInput
from ..models.clip_files import MAX_CONTEXT, MAX_EMBEDDING
from ..models.text.text_towers import AS_GIVEN, IMPORTED_TEXT, TEXT_CONFIG_FILE, TOKENIZER_FILE
from ..models.weights import MAX_WHOLE
from .clip_config import CONFIG_FILE, DEFAULTS, clip_config, read_object
from .clip_names import POSITION_IDS, from_transformers
from .clip_tokenizer_files import first_token_content, named_length

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "chinese_clip"
CONTEXT = 52  # tokens that cn_clip trained with, for a tokenizer that names no length
POOLER = "cls_last_hidden_state_pooler"  # of open_clip: the first token of the last layer
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu")
TEXT, UNUSED = "text_model.", "text_model.pooler."  # ChineseCLIPModel does not read BERT's pooler
# defaults of transformers' ChineseCLIPTextConfig; a config may leave them out
TEXT_DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "pad_token_id": 0, "type_vocab_size": 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip


def is_chinese_clip_folder(folder: Path) -> bool:
    """Return whether a folder's config.json is that of a ChineseCLIPModel."""
    return bool(read_object(folder / CONFIG_FILE).get("model_type") == MODEL_TYPE)


def read_chinese_clip(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return open_clip's `model_cfg` of a ChineseCLIPModel, and the contents of its text tower's files by name.

    Args:
        folder: holds config.json, and tokenizer.json or vocab.txt.

    Raises:
        InvalidInput: a value out of range or that BERT does not have, or a tokenizer that does not fit the tower.
    """
    values = read_object(folder / CONFIG_FILE)
    try:
        text = dict(TEXT_DEFAULTS) | dict(values.get("text_config") or {})
        vision = dict(DEFAULTS["vision_config"]) | dict(values.get("vision_config") or {})
        bert = _bert(text)
        named = named_length(folder)
        length = min(bert["max_position_embeddings"], MAX_CONTEXT, CONTEXT if named is None else named)
        text_cfg: dict[str, Any] = {
            "hf_model_name": IMPORTED_TEXT,
            "hf_tokenizer_name": IMPORTED_TEXT,
            "hf_proj_type": "linear",
            "hf_pooler_type": POOLER,
            "context_length": whole("model_max_length", length, 2, MAX_CONTEXT),
            "tokenizer_kwargs": {"clean": AS_GIVEN},  # a comma of full width is another token in BERT
        }
        config = clip_config(values, vision, text_cfg)
    except (InvalidInput, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / CONFIG_FILE} must describe a ChineseCLIPModel. {error}") from error
    content = first_token_content(folder, text_cfg["context_length"], bert["vocab_size"], bert["pad_token_id"])
    return config, {TEXT_CONFIG_FILE: json.dumps(bert, indent=1), TOKENIZER_FILE: content}


def _bert(text: Mapping[str, Any]) -> dict[str, Any]:
    """Return transformers' configuration of the BERT in a ChineseCLIPModel."""
    if text["hidden_act"] not in ACTIVATIONS:
        raise InvalidInput(f"hidden_act must be one of {', '.join(ACTIVATIONS)}. Got {text['hidden_act']!r:.40}.")
    if text.get("position_embedding_type", "absolute") != "absolute":
        raise InvalidInput(f"positions must be absolute. Got {text['position_embedding_type']!r:.40}.")
    width = whole("hidden_size", text["hidden_size"], 1, MAX_EMBEDDING)
    heads = whole("num_attention_heads", text["num_attention_heads"], 1, width)
    if width % heads:
        raise InvalidInput(f"hidden_size must be a multiple of num_attention_heads. Got {width} and {heads}.")
    rows = whole("vocab_size", text["vocab_size"], 3, MAX_WHOLE)
    names = ("hidden_act", "layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob")
    return {
        "model_type": "bert",
        "vocab_size": rows,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": whole("intermediate_size", text["intermediate_size"], 1, MAX_WHOLE),
        "num_hidden_layers": whole("num_hidden_layers", text["num_hidden_layers"], 1, 1000),
        "max_position_embeddings": whole("max_position_embeddings", text["max_position_embeddings"], 2, MAX_WHOLE),
        "type_vocab_size": whole("type_vocab_size", text["type_vocab_size"], 1, MAX_WHOLE),
        "pad_token_id": whole("pad_token_id", text["pad_token_id"], 0, rows - 1),
        **{name: text[name] for name in names},
    }


def from_chinese_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a ChineseCLIPModel under open_clip's names: the inverse of `exports.chinese_clip`.

    Raises:
        KeysMismatchError: a name that a ChineseCLIPModel does not have.
    """
    found: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(TEXT) and not name.startswith(UNUSED) and not name.endswith(POSITION_IDS):
            found[f"text.transformer.{name.removeprefix(TEXT)}"] = value
        elif name == "text_projection.weight":
            found["text.proj.weight"] = value
        elif not name.startswith(TEXT):
            others[name] = value
    return found | from_transformers(others, "ChineseCLIPModel")
