"""The configuration of transformers' SiglipModel as open_clip's. SigLIP 2 of fixed resolution has the same form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contract.checks import whole
from ..exceptions import InvalidInput
from ..models.clip_files import MAX_CONTEXT, MAX_EMBEDDING, MAX_SIDE
from ..models.text.text_towers import IMPORTED_TEXT
from ..models.weights import MAX_WHOLE
from .clip_config import CONFIG_FILE, read_object

MODEL_TYPE, FLEXIBLE = "siglip", "siglip2"  # the latter, naflex, takes images of any ratio
EPSILON = 1e-6
ACTIVATIONS = {"gelu": "none", "gelu_pytorch_tanh": "tanh"}  # transformers' name -> torch's approximation
KINDS = {
    (768, 12, 12, 3072): "base",
    (1024, 24, 16, 4096): "large",
    (1152, 27, 16, 4304): "so400m",
    (1536, 40, 16, 6144): "giantopt",
}
"""Width, layers, heads and inner width of an image tower -> its kind in timm's names."""
# defaults of transformers' SiglipTextConfig and SiglipVisionConfig; a config may leave them out
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "text_config": {
        "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": EPSILON, "projection_size": None,
    },
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": EPSILON, "vision_use_head": True,
    },
}  # fmt: skip


def is_siglip_folder(folder: Path) -> bool:
    """Return whether a folder's config.json is that of a SigLIP.

    Raises:
        InvalidInput: no config, or that of SigLIP 2 with images of any ratio.
    """
    kind = read_object(folder / CONFIG_FILE).get("model_type")
    if kind == FLEXIBLE:
        raise InvalidInput(
            f"{folder / CONFIG_FILE} must have the model_type 'siglip': images of one size. Got {kind!r}, SigLIP 2 for "
            f"images of any ratio (naflex). Take a SigLIP 2 of fixed resolution, such as siglip2-base-patch16-224."
        )
    return bool(kind == MODEL_TYPE)


def read_siglip_config(folder: Path) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of a SiglipModel.

    Args:
        folder: holds config.json.

    Raises:
        InvalidInput: a size out of range, or an image tower that timm does not have.
    """
    values = read_object(folder / CONFIG_FILE)
    try:
        text, vision = (dict(DEFAULTS[name]) | dict(values.get(name) or {}) for name in DEFAULTS)
        for tower in (text, vision):
            if tower["hidden_act"] not in ACTIVATIONS:
                raise InvalidInput(
                    f"hidden_act must be one of {', '.join(ACTIVATIONS)}. Got {tower['hidden_act']!r:.40}."
                )
            if tower["layer_norm_eps"] != EPSILON:
                raise InvalidInput(f"layer_norm_eps must be {EPSILON:g}. Got {tower['layer_norm_eps']!r:.40}.")
        if vision["num_channels"] != 3 or vision["vision_use_head"] is not True:
            raise InvalidInput("the image tower must take three colours and pool by attention. Got another form.")
        width = whole("hidden_size", vision["hidden_size"], 1, MAX_EMBEDDING)
        projection = text["hidden_size"] if text["projection_size"] is None else text["projection_size"]
        if projection != width:
            raise InvalidInput(
                f"projection_size must be the image tower's hidden_size, {width}. Got {projection!r:.40}."
            )
        return {
            "embed_dim": width,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": _vision(vision),
            "text_cfg": _text(text),
        }
    except (InvalidInput, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / CONFIG_FILE} must describe a SiglipModel. {error}") from error


def _vision(vision: Mapping[str, Any]) -> dict[str, Any]:
    from timm.models import is_model

    size = whole("image_size", vision["image_size"], 1, MAX_SIDE)
    patch = whole("patch_size", vision["patch_size"], 1, MAX_SIDE)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    kind = KINDS.get(tuple(whole(name, vision[name], 1, MAX_WHOLE) for name in names))  # type: ignore[arg-type]
    name = f"vit_{kind}_patch{patch}_siglip_{size}"
    if kind is None or not is_model(name):
        raise InvalidInput(
            f"the image tower must be one of SigLIP's, of timm ({', '.join(KINDS.values())}, patches and images of a "
            f"known size). Got {', '.join(f'{name} {vision[name]}' for name in (*names, 'patch_size', 'image_size'))}."
        )
    config = {"image_size": size, "timm_model_name": name, "timm_pool": "map", "timm_proj": "none"}
    return _with_activation(config, vision)


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    width = whole("hidden_size", text["hidden_size"], 1, MAX_EMBEDDING)
    heads = whole("num_attention_heads", text["num_attention_heads"], 1, width)
    inner = whole("intermediate_size", text["intermediate_size"], 1, MAX_WHOLE)
    if width % heads:
        raise InvalidInput(f"hidden_size must be a multiple of num_attention_heads. Got {width} and {heads}.")
    ratio = inner / width
    config = {
        "context_length": whole("max_position_embeddings", text["max_position_embeddings"], 2, MAX_CONTEXT),
        "vocab_size": whole("vocab_size", text["vocab_size"], 3, MAX_WHOLE),
        "hf_tokenizer_name": IMPORTED_TEXT,
        "width": width,
        "heads": heads,
        "layers": whole("num_hidden_layers", text["num_hidden_layers"], 1, 1000),
        "mlp_ratio": ratio if int(width * ratio) == inner else (inner + 0.5) / width,  # open_clip rounds down
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": EPSILON},
    }
    return _with_activation(config, text)


def _with_activation(config: dict[str, Any], tower: Mapping[str, Any]) -> dict[str, Any]:
    approximate = ACTIVATIONS[tower["hidden_act"]]
    return config if approximate == "none" else config | {"act_kwargs": {"approximate": approximate}}
